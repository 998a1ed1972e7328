"""A small table of every common type, as both engines can write it."""
import datetime
import decimal


def rows(n):
    """Return n rows as Python values. Fields are null now and then, vectors never."""
    def some(i, every, value):
        return None if i % every == every - 1 else value

    start = datetime.datetime(2026, 1, 31, 23, 59, 59, 123000, tzinfo=datetime.timezone.utc)
    return [
        {
            "id": i,
            "small": some(i, 5, i - 3),
            "text": some(i, 4, f"row {i} ü🩺"),
            "flag": some(i, 3, i % 2 == 0),
            "price": some(i, 6, i * 1.1),
            "amount": some(i, 7, decimal.Decimal(i * 7).scaleb(-2)),
            "day": some(i, 5, datetime.date(2026, 2, 1) + datetime.timedelta(days=i)),
            "at": some(i, 4, start + datetime.timedelta(hours=i)),
            "raw": some(i, 3, bytes([i % 256, 0, 255])),
            "tags": some(i, 4, [f"t{k}" for k in range(i % 3)]),
            "place": some(i, 5, {"city": some(i, 2, "Wien"), "x": i / 8}),
            "embedding": [i / 4, -1.5, 0.0],
        }
        for i in range(n)
    ]
