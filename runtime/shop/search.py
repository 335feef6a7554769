"""Full-text search over the policy documents of one index version."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

LONGEST_QUERY = 500
MOST_PASSAGES = 3
# A passage that matches this much less than the best one only distracts.
LEAST_SHARE_OF_BEST = 0.4

# Lexemes of the query are OR-ed: customers use more words than a document has. `plainto_tsquery` makes lexemes out
# of anything, so no character of the query has a meaning here. A rare word counts more than a common one: the share
# of the question's words that a section has, weighted so, is added to its text rank (0 to 1).
SQL = """
WITH question AS (
    SELECT replace(plainto_tsquery('english', %(query)s)::text, ' & ', ' | ')::tsquery AS words
), current AS (
    SELECT DISTINCT ON (slug) id, slug, version, title
    FROM shop_policydocument WHERE version <= %(version)s ORDER BY slug, version DESC
), section AS (
    SELECT current.slug, current.version, current.title, part.*, tsvector_to_array(part.search) AS lexemes
    FROM current JOIN shop_policysection AS part ON part.document_id = current.id
), term AS (
    SELECT lexeme, 1 / sqrt(1 + (SELECT count(*) FROM section WHERE lexeme = ANY(lexemes))) AS weight
    FROM unnest(tsvector_to_array(to_tsvector('english', %(query)s))) AS lexeme
)
SELECT slug, anchor, version, title, heading, text,
       ts_rank_cd('{0.1, 0.3, 0.6, 1.0}', search, words, 1 | 32)
         + (SELECT sum(weight) FILTER (WHERE lexeme = ANY(lexemes)) / sum(weight) FROM term) AS score,
       ts_headline('english', text, words, 'StartSel="", StopSel="", MaxWords=32, MinWords=12, MaxFragments=1')
FROM question, section
WHERE search @@ words
ORDER BY score DESC, slug, position
LIMIT %(limit)s
"""


@dataclass(frozen=True)
class Passage:
    citation: str  # document#section@version
    title: str
    text: str
    snippet: str
    score: float


def find(query: str, *, version: str, limit: int = MOST_PASSAGES) -> list[Passage]:
    """The sections that answer the query best, best first; none when nothing fits. Any text is a fair query."""
    plain = query.replace("\0", " ").encode("utf-8", "replace").decode()[:LONGEST_QUERY]
    with connection.cursor() as cursor:
        cursor.execute(SQL, {"query": plain, "version": version, "limit": limit})
        rows = cursor.fetchall()
    found = [
        Passage(f"{slug}#{anchor}@{wording}", f"{title}: {heading}", text, snippet, round(float(score), 4))
        for slug, anchor, wording, title, heading, text, score, snippet in rows
    ]
    return [passage for passage in found if passage.score >= found[0].score * LEAST_SHARE_OF_BEST]
