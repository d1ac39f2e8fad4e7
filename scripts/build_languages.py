"""Fill in what table.csv takes from Glottolog: family, path and coordinates, by glottocode.

The other columns are decided by hand (docs/reference/languages.md). Glottolog's tree comes from a
package of its own, which isogloss does not need otherwise, so run it in a fresh environment:

    python -m venv /tmp/glottolog && /tmp/glottolog/bin/pip install qwanqwa==1.2.1
    /tmp/glottolog/bin/python scripts/build_languages.py
"""

import csv
from pathlib import Path

from qq import Database, IdType

TABLE = Path(__file__).parents[1] / "src/isogloss/languages/table.csv"
# Glottolog has N'Ko, the written standard of the Manding languages, among artificial languages.
UNDER = {"nkoa1234": "mand1435"}


def ancestors(database: Database, glottocode: str) -> list[str]:
    """Names of the nodes above a languoid, from the family down."""
    if under := UNDER.get(glottocode):
        node = database.get(under, IdType.GLOTTOCODE)
        return [*ancestors(database, under), node.name]
    names = []
    node = database.get(glottocode, IdType.GLOTTOCODE).parent
    while node is not None:
        names.append(node.name)
        node = node.parent
    return names[::-1]


def coordinates(database: Database, glottocode: str) -> tuple[float, float]:
    """Latitude and longitude of a languoid in degrees; of the node it is put under if it has none.

    Four decimals, about ten metres, are more than these points mean.
    """
    node = database.get(UNDER.get(glottocode, glottocode), IdType.GLOTTOCODE)
    return round(node.latitude, 4), round(node.longitude, 4)


def main() -> None:
    """Rewrite the table in place, sorted by code."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["code"])
    database = Database.load()
    for row in rows:
        path = ancestors(database, row["glottocode"])
        # An isolate is a family of its own.
        row["family"] = path[0] if path else row["name"]
        row["path"] = " > ".join(path)
        row["latitude"], row["longitude"] = coordinates(database, row["glottocode"])
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
