"""Neurons as rows of one table: its columns, what stands in them, and which rows a view keeps."""
