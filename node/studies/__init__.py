"""Pure knowledge of series and studies: geometry, completeness, rules, preflight."""
