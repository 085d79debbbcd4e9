"""Write the page `mutants.md` from the report of a test run: `python docs/mutants.py REPORT`.

`nox -s mutants` makes the report and the page.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("mutants.md")

HEAD = """\
# Planted bugs

Does the conformance kit ([`trunkline.testing`](reference/testing.md)) find real bugs? This page shows the kit's
result for providers with one planted bug each. The bugs are mistakes that a careless plugin author could make, or that
users of other libraries complain about. Most were planted by someone who had not read the kit; those in the contents
of requests were planted by the author of the tests that find them. If a bug survived, the kit or the plugin's samples
were extended until they caught it. The result therefore does not say how many unknown bugs the kit finds.

"Plugin" is a plugin of this project, or `globex`, the package that `trunkline new-plugin globex` makes. "Class" is a
class of the [fault catalogue](faults.md). "Caught by" is the first test that failed. `nox -s mutants` runs the kit
and writes this page from `tests/mutants/mutants.toml`.
"""

NOT_COVERED = """\
## What the kit does not cover

A provider that passes the kit can still have these bugs:

- **The expected request is wrong.** The kit compares requests with the `request_wire`, `unstreamed_wire` and
  `operation_requests` that the author wrote. If they differ from what the API accepts, only the API can tell. Send a
  few requests to the real API before you publish.
- **A field under a wrong name that `TOOL_HISTORY` does not have**, such as `top_logprobs`, `reasoning`,
  `response_format`, the detail of an image or the name of a document. The kit checks that such a value is sent once,
  or that two values of the field give different requests, but not what the field is called. Add a sample with a
  `request_wire` for each.
- **Operations of your own** that applications pass to `service.run`, and the pages of a list of models, if the test
  class has no `model_pages`.
- **The order of parts of different types**, such as text after reasoning, if no sample has `parts`.
- **What your own code opens or starts**, such as the credential of a library, which must be closed with the service,
  or a computation that goes on after the application has stopped reading. The kit checks the connections of
  Trunkline's transports.
- **The values of your API's own headers**, such as the time at which a rate limit ends.
- **The value of an enumeration.** Whether `required` is sent as `any` or as `must` is compared only if a
  `request_wire` contains it.
- **The type of a document** and the format of audio where the API has a field of its own for it.
- **Settings that the test class does not use**, such as another authentication or another version of the API. Add a
  test class for each, with a `variant`.
- **Citations, refusals, log probabilities and unknown kinds of content blocks, if no sample has any.** Add samples
  with `cited`, `refusal`, `logprobs` and `kept`. Other fields of citations are not compared with anything.
- **Responses that no sample has**, such as redacted reasoning in several pieces, or a tool call that the output limit
  cut off. Add a sample of each form that your API documents.
- **Errors that only your API has**, such as an invalid key with status 400. Add a frame of each to `errors` of the
  wire format. A finish reason is checked only if `finish_reasons` contains it.
- **Model families** that `families` of the test class does not name.
- **How `provider_options` are merged** into objects of the body that `merged_options` of the wire format does not
  name. The kit checks only that they are sent.
- **A limit on the output that nobody asked for**, if you skip `test_output_limit_that_is_not_set_is_not_sent`
  because the API requires a limit.
- **The meaning of a signature.** The kit checks that credentials change a signed request, not that the API accepts
  it.
- **Limits of the API**, such as the number of stop sequences, unless your translator gives a warning for them.
"""


def _subject(mutant: dict[str, Any]) -> str:
    class_ = [f"class {mutant['class']}"] if "class" in mutant else []
    complaint = [mutant["complaint"]] if "complaint" in mutant else []
    return "; ".join(class_ + complaint)


def page(report: list[dict[str, Any]]) -> str:
    """The complete page."""
    plugins = [mutant for mutant in report if mutant["kit"]]
    core = [mutant for mutant in report if mutant["package"] == "core"]
    own = [mutant for mutant in report if not mutant["kit"] and mutant["package"] != "core"]
    return "\n".join(
        [
            HEAD,
            f"**The kit catches {_caught(plugins)} bugs.**",
            "",
            *_table("plugin", plugins),
            "",
            NOT_COVERED,
            "## Bugs in the core",
            "",
            "The core's tests (`core/tests/`) are tested in the same way.",
            "",
            f"**The core's tests catch {_caught(core)} bugs.**",
            "",
            *_table("package", core),
            "",
            "## Bugs for the plugins' own tests",
            "",
            "The tests of plugins beside the kit (`plugins/*/tests/`) are tested in the same way.",
            "",
            f"**The plugins' own tests catch {_caught(own)} bugs.**",
            "",
            *_table("plugin", own),
            "",
        ]
    )


def _caught(report: list[dict[str, Any]]) -> str:
    return f"{sum(mutant['test'] is not None for mutant in report)} of {len(report)}"


def _table(head: str, report: list[dict[str, Any]]) -> list[str]:
    lines = [f"| {head} | bug | class; complaint of users | caught by |", "|---|---|---|---|"]
    for mutant in report:
        test = f"`{mutant['test'].partition('[')[0]}`" if mutant["test"] is not None else "**nothing**"
        lines.append(f"| {mutant['package']} | {mutant['why']} | {_subject(mutant)} | {test} |")
    return lines


def main(arguments: list[str]) -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
