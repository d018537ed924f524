"""What stands in the table where the profile names no metric."""

from edgedeploy.report.document import EvaluationReport, ParityReport
from edgedeploy.report.table import delta_lines


def test_the_worst_output_is_told():
    found = EvaluationReport(
        n=8,
        parity=(
            ParityReport(output="a", stats={"cosine_min": 0.5, "max_abs": 1.0}),
            ParityReport(output="b", stats={"cosine_min": 0.9, "max_abs": 2.0}),
            ParityReport(output="c", stats={"cosine_min": None, "max_abs": None}),
        ),
    )
    assert delta_lines(found) == ("cosine 0.500000", "off by 2.0e+00", "n=8")


def test_nothing_compared_is_nothing_said():
    assert delta_lines(EvaluationReport(n=0)) == delta_lines(None)
