import numpy as np
import pandas as pd
from samples import reviews

from sentiflow.data import seen_texts


def test_case_spacing_punctuation_and_unicode_form_make_no_difference():
    same = [
        "Un caf\u00e9, s'il vous pla\u00eet!",
        "un  cafe\u0301 s il\tvous plai\u0302t",
        "UN CAF\u00c9 S'IL VOUS PLA\u00ceT...",
        "Un caf\u00c3\u00a9 s'il vous pla\u00c3\u00aet",
        "Un ca\u00adf\u00e9\u200b s'il vous pla\u00eet",
    ]
    others = ["Un caf\u00e9, si te plait", "", "\U0001f600", "\U0001f622", "\u597d\u7535\u5f71", "\u574f\u7535\u5f71"]
    found = seen_texts.hashes(pd.Series(same + others))
    assert found.dtype == np.uint64
    assert len(set(found[:5])) == 1
    assert len(set(found)) == 1 + len(others)


def test_each_seen_text_is_found_again_and_no_other():
    texts, _ = reviews(30)
    seen = seen_texts.of_training(pd.concat([texts.iloc[:20], texts.iloc[:5]]))
    assert seen["hash"].is_monotonic_increasing
    assert seen["hash"].is_unique
    assert seen_texts.rows(texts, seen) == frozenset(range(20))
    assert seen_texts.rows(texts.str.upper().set_axis(texts.index + 100), seen) == frozenset(range(100, 120))
