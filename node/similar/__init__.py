"""Similar findings: which earlier findings of this site look like one, by the embeddings of a pipeline."""
