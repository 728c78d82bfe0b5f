"""De-identification of objects for research and cloud destinations (PS3.15 annex E), and the check of the outcome."""
