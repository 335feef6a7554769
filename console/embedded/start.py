"""Which start of `up` a console belongs to. Another program may have taken the port since it was looked at."""

from __future__ import annotations

import http.client
import secrets
from enum import Enum

VARIABLE = "STEADYHAND_START"
HEADER = "Steadyhand-Start"


class Answers(Enum):
    """Who answers at an address."""

    NOBODY = "nobody"
    OURS = "ours"
    ANOTHER = "another"  # whatever it is: no console of this start can listen there
    ANOTHER_STEADYHAND = "another Steadyhand"


def new() -> str:
    """A name for one start. It is no secret."""
    return secrets.token_hex(8)


def who_answers(host: str, port: int, name: str) -> Answers:
    """Ask whoever listens there for the name of its start."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        told = answer.getheader(HEADER, "")
        if told == name:
            return Answers.OURS if answer.status == http.HTTPStatus.OK else Answers.NOBODY
        return Answers.ANOTHER_STEADYHAND if told else Answers.ANOTHER
    except OSError:
        return Answers.NOBODY
    except http.client.HTTPException:
        return Answers.ANOTHER
    finally:
        connection.close()
