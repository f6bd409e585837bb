"""Writers of what is generated: reference, tables and pictures of the documents, vocabularies."""
