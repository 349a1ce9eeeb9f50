"""Terms of use of known data sets."""

MAAS = """\
The reviews are those of the Large Movie Review Dataset. Its authors ask that its use be cited:
Andrew L. Maas, Raymond E. Daly, Peter T. Pham, Dan Huang, Andrew Y. Ng and Christopher Potts (2011).
*Learning Word Vectors for Sentiment Analysis.* Proceedings of ACL-HLT 2011, pages 142-150.
<https://ai.stanford.edu/~amaas/data/sentiment/>. The texts were written by users of IMDB and remain theirs."""
PANG_LEE = """\
The snippets are those of the sentence polarity dataset v1.0, to be cited as: Bo Pang and Lillian Lee (2005).
*Seeing stars: Exploiting class relationships for sentiment categorization with respect to rating scales.* Proceedings of ACL
2005, pages 115-124. <https://www.cs.cornell.edu/people/pabo/movie-review-data/>. The texts remain their critics'."""
UNKNOWN = "The terms of use of this file are not known. Ask its owner before you publish texts, or a model trained on them."


def of_file(kind: str, location: str) -> str:
    return MAAS if "imdb" in location.rpartition("/")[2].lower() else UNKNOWN
