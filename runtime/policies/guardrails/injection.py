"""Signs that a text speaks to the model instead of to people. They only ever raise suspicion: a text without them
is not safe, so nothing is let pass because of this check.
"""

from __future__ import annotations

from console import redact
from releases.policies import patterns
from runtime.policies.guardrails.rewriting import Found, readable

SIGNS = {
    "sets earlier instructions aside": r"\b(ignore|disregard|forget|override|bypass)\b[\w\s,'’]{0,40}"
    r"\b(previous|prior|above|earlier|preceding|all|your|any|the system)\b[\w\s,'’]{0,30}"
    r"\b(instructions?|prompts?|rules?|guidelines?|directions?|policies|restrictions?)\b",
    "gives the model another role": r"\b(you are now|from now on,? you|act as (an?|the)\b|pretend (to be|you are)|"
    r"enter (developer|debug|admin|god) mode|developer mode|jailbreak)",
    "speaks as the system": r"(?m)(^\s*(system|assistant|developer)\s*(prompt|message|note)?\s*:|<\|?/?\s*"
    r"(system|im_start|im_end|assistant|instructions?)\b|\[/?INST\]|^#{1,4}\s*(system|new)?\s*instructions?\b)",
    "speaks to the model": r"\b(dear|attention|hey|hello|note (to|for)|message (to|for)|instructions? (to|for))\b"
    r"[\s:,]{0,4}((the |any |all |our |your )?(\w+ ){0,2}(ai|llm|language model|assistant|chatbot)|(the )?agent)s?\b",
    "gives new orders": r"\b(new|updated|important|urgent|real) (system )?(instructions?|orders|task)\s*(:|are|is|for)",
    "wants the instructions told": r"\b(reveal|print|repeat|show|output|leak|tell me)\b[\w\s,'’]{0,30}"
    r"\b(system prompt|your (instructions|prompt|rules)|hidden (prompt|instructions))",
    "wants it kept secret": r"\b(do not|don['’]t|never|without)\b[\w\s]{0,10}\b(tell|telling|inform|informing|mention|"
    r"mentioning|notify|notifying|alert|alerting)\b[\w\s]{0,20}\b(user|customer|human|operator|anyone|anybody)\b",
    "wants secrets sent": r"\b(send|forward|post|upload|e-?mail|exfiltrate|transmit)\b[\w\s,'’]{0,60}"
    r"\b(passwords?|api keys?|secrets?|credentials?|tokens?|private keys?)\b",
    "loads something when shown": r"!\[[^\]\n]{0,200}\]\(\s*https?://",
}
MOST_SHOWN = 120  # characters of an excerpt


def suspicion(text: str) -> Found | None:
    """The signs that the text carries, each with where it was seen."""
    read = readable(text)
    seen = {name: match for name, sign in SIGNS.items() if (match := patterns.compiled(sign).search(read))}
    if not seen:
        return None
    shown = tuple(f"{name}: “{_excerpt(match[0])}”" for name, match in seen.items())
    return Found(f"The text seems to speak to the model: it {', '.join(seen)}.", shown)


def _excerpt(text: str) -> str:
    return str(redact.personal(redact.text(" ".join(text.split()))))[:MOST_SHOWN]
