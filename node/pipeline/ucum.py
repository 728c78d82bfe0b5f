"""Units of measurements: the Unified Code for Units of Measure, case sensitive (UCUM 2.2, ucum.org).

DICOM takes any UCUM code (PS3.3 C.18.1, PS3.16 CID 82), not only those that the standard itself lists.
"""

from __future__ import annotations

import re
from functools import cache

_PREFIXES = "Y Z E P T G M k h da d c m u n p f a z y Ki Mi Gi Ti"
_METRIC = """
    m s g rad K C cd mol sr Hz N Pa J W A V F Ohm S Wb Cel T H lm lx Bq Gy Sv l L ar t bar u eV pc [c] [h] [k]
    [eps_0] [mu_0] [e] [m_e] [m_p] [G] [g] [ly] gf Ky Gal dyn erg P Bi St Mx G Oe Gb sb Lmb ph Ci R RAD REM
    cal_[15] cal_[20] cal_m cal_IT cal_th cal tex m[H2O] m[Hg] eq osm g% kat U [iU] [IU] Np B B[SPL] B[V] B[mV]
    B[uV] B[10.nV] B[W] B[kW] st mho bit By Bd
"""
"""Units that may have a prefix."""
_OTHERS = """
    10* 10^ [pi] % [ppth] [ppm] [ppb] [pptr] gon deg ' '' min h d a_t a_j a_g a wk mo_s mo_j mo_g mo AU atm
    [lbf_av] [in_i] [ft_i] [yd_i] [mi_i] [fth_i] [nmi_i] [kn_i] [sin_i] [sft_i] [syd_i] [cin_i] [cft_i] [cyd_i]
    [bf_i] [cr_i] [mil_i] [cml_i] [hd_i] [ft_us] [yd_us] [in_us] [rd_us] [ch_us] [lk_us] [rch_us] [rlk_us]
    [fth_us] [fur_us] [mi_us] [acr_us] [srd_us] [smi_us] [sct] [twp] [mil_us] [in_br] [ft_br] [rd_br] [ch_br]
    [lk_br] [fth_br] [pc_br] [yd_br] [mi_br] [nmi_br] [kn_br] [acr_br] [gal_us] [bbl_us] [qt_us] [pt_us]
    [gil_us] [foz_us] [fdr_us] [min_us] [crd_us] [bu_us] [gal_wi] [pk_us] [dqt_us] [dpt_us] [tbs_us] [tsp_us]
    [cup_us] [foz_m] [cup_m] [tsp_m] [tbs_m] [gal_br] [pk_br] [bu_br] [qt_br] [pt_br] [gil_br] [foz_br] [fdr_br]
    [min_br] [gr] [lb_av] [oz_av] [dr_av] [scwt_av] [lcwt_av] [ston_av] [lton_av] [stone_av] [pwt_tr] [oz_tr]
    [lb_tr] [sc_ap] [dr_ap] [oz_ap] [lb_ap] [oz_m] [lne] [pnt] [pca] [pnt_pr] [pca_pr] [pied] [pouce] [ligne]
    [didot] [cicero] [degF] [degR] [degRe] [Cal] [Btu_39] [Btu_59] [Btu_60] [Btu_m] [Btu_IT] [Btu_th] [Btu] [HP]
    [den] [in_i'H2O] [in_i'Hg] [PRU] [wood'U] [diop] [p'diop] %[slope] [mesh_i] [Ch] [drp] [hnsf'U] [MET]
    [hp'_X] [hp'_C] [hp'_M] [hp'_Q] [hp_X] [hp_C] [hp_M] [hp_Q] [kp_X] [kp_C] [kp_M] [kp_Q] [pH] [S] [HPF] [LPF]
    [arb'U] [USP'U] [GPL'U] [MPL'U] [APL'U] [beth'U] [anti'Xa'U] [todd'U] [dye'U] [smgy'U] [bdsk'U] [ka'U]
    [knk'U] [mclg'U] [tb'U] [CCID_50] [TCID_50] [EID_50] [PFU] [FFU] [CFU] [IR] [BAU] [AU] [Amb'a'1'U] [PNU]
    [Lf] [D'ag'U] [FEU] [ELU] [EU] Ao b att [psi] circ sph [car_m] [car_Au] [smoot] [m/s2/Hz^(1/2)] [NTU] [FNU]
    bit_s
"""
_LONGEST = 64
_UNIT = re.compile(r"(10[*^]|(?:[A-Za-z%'_]|\[[^\[\]\s]+\])+)(?:[+-]?\d+)?")
_FACTOR = re.compile(r"\d+")
_ANNOTATION = re.compile(r"\{[!-z|~]*\}")
_TYPOGRAPHY = str.maketrans({"^": "", "µ": "u", "²": "2", "³": "3"})
_LISTED = frozenset({"diop", "ml/[100]g/min", "ml/[100]ml", "{Particles}/[100]g{Tissue}", "ppm", "10-6.mm2/s"})
"""What PS3.16 lists although UCUM has no such code."""
_SLIPS = {"HU": "[hnsf'U]", "cc": "ml", "": "1", "days": "d", "sec": "s"}


def unit_fault(value: str, scheme: str) -> str:
    """Why a unit is none of UCUM, with the remedy; empty when it is one."""
    if scheme != "UCUM":
        return f"the unit {value!r} is of the scheme {scheme!r}; use a UCUM code, such as Code('mm', 'UCUM', 'mm')"
    if is_ucum(value):
        return ""
    likely = _SLIPS.get(value, value.strip().translate(_TYPOGRAPHY))
    remedy = f"did you mean {likely!r}?" if is_ucum(likely) else "UCUM writes mm, mm2, ml, %, 1, d, [hnsf'U], ml/min/g"
    return f"{value!r} is no UCUM unit, which is case sensitive; {remedy}"


def is_ucum(value: str) -> bool:
    """Whether a code follows the grammar of UCUM, and every unit in it exists."""
    if not 0 < len(value) <= _LONGEST:
        return False
    return value in _LISTED or _term(value, int(value.startswith("/"))) == len(value)


def _term(text: str, at: int) -> int:
    """The end of the term that begins ``at``; -1 when none does."""
    at = _component(text, at)
    while 0 <= at < len(text) and text[at] in "./":
        at = _component(text, at + 1)
    return at


def _component(text: str, at: int) -> int:
    if text.startswith("(", at):
        end = _term(text, at + 1)
        return end + 1 if end > 0 and text.startswith(")", end) else -1
    if unit := _UNIT.match(text, at):
        if not _exists(unit[1]):
            return -1
        end = unit.end()
        note = _ANNOTATION.match(text, end)
        return note.end() if note else end
    match = _FACTOR.match(text, at) or _ANNOTATION.match(text, at)
    return match.end() if match else -1


@cache
def _units() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Prefixes, units that may have one, and all units."""
    metric = frozenset(_METRIC.split())
    return frozenset(_PREFIXES.split()), metric, metric | frozenset(_OTHERS.split()) | _LISTED


def _exists(atom: str) -> bool:
    prefixes, metric, known = _units()
    return atom in known or any(atom[:n] in prefixes and atom[n:] in metric for n in (1, 2))
