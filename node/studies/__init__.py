"""Pure knowledge of series and studies: geometry, identity, suitability, preflight."""
