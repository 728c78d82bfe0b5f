"""Results: findings become DICOM objects (SEG, TID 1500 SR, derived series), which the gate validates."""
