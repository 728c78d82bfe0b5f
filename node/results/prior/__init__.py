"""Prior analyses of the patient, read back from this node's own objects, and the comparison with them."""
