"""Codes by which those who read a report recognise its content; reading imports nothing that encodes."""

from __future__ import annotations

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.outcome import Outcome

SUMMARIES: dict[tuple[Outcome, bool], Code] = {  # CID 6047, by outcome and whether anything is present
    (Outcome.FINDINGS, True): codes.DCM.AllAlgorithmsSucceededWithFindings,
    (Outcome.NO_FINDINGS, False): codes.DCM.AllAlgorithmsSucceededWithoutFindings,
    # CID 6047 knows only with and without findings, and neither is true of these two
    (Outcome.INDETERMINATE, False): codes.SCT.IndeterminateResult,
    (Outcome.MEASURED, False): codes.SCT.Measured,
    (Outcome.PARTIAL, True): codes.DCM.NotAllAlgorithmsSucceededWithFindings,
    (Outcome.PARTIAL, False): codes.DCM.NotAllAlgorithmsSucceededWithoutFindings,
    (Outcome.NOT_APPLICABLE, False): codes.DCM.NoAlgorithmsSucceededWithoutFindings,
    (Outcome.FAILED, False): codes.DCM.NoAlgorithmsSucceededWithoutFindings,
}
STATUSES: dict[Outcome, Code] = {  # CID 6042
    Outcome.FINDINGS: codes.DCM.Succeeded,
    Outcome.NO_FINDINGS: codes.DCM.Succeeded,
    Outcome.INDETERMINATE: codes.DCM.Succeeded,
    Outcome.MEASURED: codes.DCM.Succeeded,
    Outcome.PARTIAL: codes.DCM.PartiallySucceeded,
    Outcome.NOT_APPLICABLE: codes.DCM.NotAttempted,
    Outcome.FAILED: codes.DCM.Failed,
}
PRESENCES = {"52101004": "present", "2667000": "absent", "82334004": "indeterminate"}
"""Code values (SCT) of ``node.pipeline.assertion.CODES``."""
EARLIER_VOLUME = Code("volume-before", "99AINODE", "Volume in the earlier study")
CHANGE = Code("volume-change", "99AINODE", "Change of volume since the earlier study")
DOUBLING_TIME = Code("doubling-time", "99AINODE", "Volume doubling time")
ATTENUATION = (
    codes.DCM.MeanAttenuationCoefficient,
    codes.DCM.StandardDeviationOfAttenuationCoefficient,
    codes.DCM.MinimumAttenuationCoefficient,
    codes.DCM.MaximumAttenuationCoefficient,
)
"""Values of the images within a finding."""
