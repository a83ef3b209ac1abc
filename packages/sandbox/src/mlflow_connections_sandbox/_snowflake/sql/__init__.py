"""SQL text in, statements out."""
