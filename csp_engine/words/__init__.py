"""Words for concepts: vocabularies, the templates they are embedded in, lists of concepts."""
