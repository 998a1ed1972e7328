"""How the drivers speak with Go: one JSON object a line, asked on stdin and answered on what was stdout."""
import base64
import datetime
import decimal
import json
import os
import sys
import traceback


def plain(value):
    """Return a value as JSON has it: bytes as base64, times as milliseconds since 1970, dates and decimals as text."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)  # TZ is UTC
        return (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)
    if isinstance(value, (datetime.date, decimal.Decimal)):
        return str(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def serve(**operations):
    """Answer requests until stdin ends. What operations print goes to stderr, so that it cannot be taken for an answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": plain(operations[request.pop("op")](**request))}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
