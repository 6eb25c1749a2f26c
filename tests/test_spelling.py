from glassrec.spelling import did_you_mean, one_of


def test_the_nearest_name_is_offered_whatever_its_case():
    assert did_you_mean("gmff", ["DLRM", "GMF"]) == "; did you mean 'GMF'?"


def test_nothing_is_offered_where_no_name_is_near():
    assert did_you_mean("zzz", ["DLRM", "GMF"]) == ""
    assert one_of("zzz", ["dlrm", "gmf"]) == " (choices: dlrm, gmf)"
