"""How customers say things: patterns over the cleaned text of a message (see wishes.clean)."""

from __future__ import annotations

import re


def any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


FORBIDDEN = {
    "rules": any_of(
        r"\b(ignore|disregard|forget|override|bypass)\b.{0,40}\b(instructions?|rules?|prompts?|limits?|polic\w+|approvals?)\b",
        r"\bsystem prompt\b|\bdeveloper mode\b|\bjailbreak|\byou are now\b|\bpretend (to be|you)|\bact as\b",
        r"\b(print|reveal|repeat|show)\b.{0,20}\b(your|the) (instructions|prompt|rules)\b",
        r"\bwithout (an? |any )?(approval|asking)|\bapprove (it|this) yourself\b",
        r"\b(i am|as) (an? |the )?(admin\w*|developer|owner)\b",
    ),
    "data": any_of(
        r"\b(neighbou?r|girlfriend|boyfriend|wife|husband|friend|sister|brother|colleague|boss|ex|partner)"
        r"( [a-z]+)?('s|s) "
        r".{0,25}\b(orders?|address|e-?mail|phone|data|account|purchases?)\b",
        r"\b(another|other|all( the)?|any) (customers?|people|person|user)s?('s|')?\b.{0,40}"
        r"\b(orders?|address|e-?mails?|phone|data|names?)\b",
        r"\b(list|names?|e-?mails?|data|addresses|phone numbers?) (of|for) (all|every|other|the) ?(your )?(other )?"
        r"customers?\b",
        r"\b(what|which) (did|has|have) .{1,30}\b(ordered|order|bought|buy)\b(?<!i ordered)(?<!i order)",
        r"\b(orders?|address|e-?mails?|phone( number)?|data) (of|from) (another|other|some|any|my) "
        r"(customers?|person|people|users?|neighbou?r|friend|ex|wife|husband|boss)\b",
        r"\b(somebody|someone) else'?s?\b.{0,25}\b(orders?|address|e-?mail|data|account)\b",
    ),
    "account": any_of(
        r"\b(refund|money|send|pay)\b.{0,40}\b(another|different|other|new|friend's|my paypal|bitcoin)\b.{0,12}"
        r"\b(account|card|iban|bank|wallet)\b",
        r"\b(iban|paypal|bitcoin|gift ?card)\b.{0,40}\b(refund|money)\b",
        r"\b(refund|money)\b.{0,40}\b(to|on|via|in|as) (a |my |this )?(iban|paypal|bitcoin|crypto|gift ?card)\b",
    ),
    "price": any_of(
        r"\bdiscounts?\b|\bcoupons?\b|\bpromo( |-)?codes?\b|\bvoucher codes?\b|\bprice match",
        r"\b(lower|reduce|change|match) the price\b",
        r"\bcheaper\b|\bfor free\b|\bfree (gift|product|item|sample)s?\b|\bhaggle\b",
    ),
}
ASKS_RULE = any_of(
    r"\bpolic(y|ies)\b|\bhow (long|much time|many days|do|does|fast|quick|can)\b",
    r"\bwhat('s| is| are| happens)\b|\bwho (pays|sees|can)\b",
    r"\bdo you (ship|deliver|offer|take|keep|sell|store|have|charge)\b",
    r"\bis (it|there|this) (possible|a way|a fee|allowed|a charge)\b",
    r"\b(can|may) (i|we|one|my (wife|husband|friend|partner|mother|father)) (still )?"
    r"(return|send|exchange|change|bring|swap|keep)\b",
    r"\bam i talking to\b|\bare you (a )?(robot|bot|human|ai|real)\b",
    r"\bis .{0,40}\b(covered|under (warranty|guarantee))\b",
    r"\bwhat does .{0,30} cost\b|\bhow much (is|does|are)\b|\bmy data\b|\bdelete my\b|\bgdpr\b|\bprivacy\b",
    r"\bpersonal data\b|\bdo i (have|need) to\b|\bmust i\b|\b(is|are) .{0,20}\bfree\b",
)
RULE_TOPIC = any_of(
    r"\breturns?\b|\bsend .{0,20}back\b|\brefund|\bmoney back\b|\bdeliver|\bship|\bwarrant|\bguarantee",
    r"\bprivacy\b|\bdata\b",
    r"\baddress|\bexchange\b|\bpostage\b|\bdamage|\brobot|\bbot\b|\bhuman\b|\bcovered\b|\bcosts?\b|\bfees?\b",
    r"\blabel\b|\bopened\b|\bpolic|\bai\b|\bparts\b",
)
REFUND = any_of(
    r"\brefund|\bmoney back\b|\b(dollars|usd|bucks|\$ ?[\d.,]+) back\b|\breimburs|\bget back (my|the) money\b",
    r"\bpay me back\b|\breturn (my|the) money\b|\bgive me (my|the) money\b",
    r"\b(give|take|bring) (it|this|them|one) back\b",
    r"\bwant (my|the) money\b|\bchanged my mind\b|\bmoney b[ack]{2,3}\b",
    r"\b(want|like|need|wish) to (return|send back|exchange)\b",
    r"\b(return|send back) (my|this|the|it|these|order)\b",
)
DAMAGED = any_of(
    r"\b(has|have) a (hole|crack|dent|scratch|tear)\b",
    r"\btorn\b|\bripped\b|\bleak(s|ing)\b|\bcrushed\b|\bsilent\b|\bno sound\b",
    r"\bbroken?\b|\bbroke\b|\bdamaged?\b|\bcracked\b|\bsmashed\b|\bscratched\b|\bdented\b|\bshattered\b",
    r"\bdefective\b|\bfaulty\b",
    r"\b(does|do|did)(n't| not|nt) (work|turn on|charge|switch on)\b|\bstopped working\b|\bdead on arrival\b",
    r"\bnot working\b|\bin pieces\b",
)
WRONG = any_of(
    r"\bwrong (item|product|colou?r|size|thing|one|model|order)\b|\bnot what i ordered\b|\bsomething else\b",
    r"\bdifferent (item|product|one|colou?r)\b",
    r"\b(parts?|pieces?|items?) (is|are|was|were) missing\b|\bmissing (parts?|pieces?|items?)\b",
    r"\bincomplete\b",
)
LATE = any_of(
    r"\b(has|have|did)(n't| not|nt) (yet )?(arrived?|come|shown up|been delivered|received?)\b",
    r"\bnever (came|arrived|showed up|got|received|saw)\b",
    r"\bnot (yet )?(arrived|here|received|delivered|come)\b|\bstill (waiting|not here|nothing)\b|\boverdue\b",
    r"\blate\b|\bdelayed\b|\blost\b",
)
WHERE_IS_REFUND = any_of(r"\b(where|when)\b.{0,25}\b(my|the) (refund|money)\b")
ACCOUNT = any_of(
    r"\b(charged|billed|paid) (me )?(twice|double|two times)\b|\bovercharged\b|\binvoice\b|\breceipt\b",
    r"\b(change|update|reset|forgot|lost|wrong|new)\b.{0,20}"
    r"\b(e-?mail|password|phone number|login|profile|credit card)\b",
)
WHO = any_of(r"\bwho are you\b|\bwhat can you do\b|\bhow can you help\b|^help( me)?$")
STATUS = any_of(
    r"\bon (the|its) way\b|\bcourier\b|\bwhat happened (to|with)\b",
    r"\bcheck (on |up )?(on )?(my |the )?(order |#)?\d{4,}\b",
    r"\bwhere('s| is| are|s)\b.{0,40}\b(orders?|package|parcel|delivery|it|stuff|things?|one|headphones|backpack)\b",
    r"\btrack(ing)?\b",
    r"\bstatus\b",
    r"\bwhen (will|does|is|do|can)\b.{0,40}\b(arrive|come|coming|delivered|get here|here|ship|receive|get it)\b",
    r"\b(has|was|is) (it|my (order|parcel|package)|order \d+) .{0,20}\b(shipped|sent|packed|delivered|on its way)\b",
    r"\bany news\b|\bupdate on\b|\bhow (is|about) (my|the) (other )?order\b",
)
ADDRESS = any_of(
    r"\b(change|update|correct|fix|edit|modify|new|wrong|different|another)\b.{0,40}\baddress\b",
    r"\baddress\b.{0,40}\b(change|changed|wrong|new|update|is now)\b",
    r"\b(moved|moving) (house|to|away|flat)\b",
    r"\b(send|deliver|ship|redirect|reroute) (it|this|my order|my parcel|the parcel|order #?\d+)\b.{0,15} to\b",
)
ORDERS = any_of(
    r"\b(list|show|see|view|give)\b.{0,20}\borders\b|\b(what|which) orders\b|\border history\b",
    r"\ball (of )?(my )?orders\b|\b(my|recent|past|last|latest) orders\b",
    r"\bwhat (did|have) i (order|ordered|bought|buy)\b|\borders (of|for|by) (customer )?cus_",
)
DRAFT = any_of(
    r"\b(draft|prepare|write) (me )?(a |an )?(\w+ )?(reply|answer|response|draft|message|mail|email)\b",
    r"\bsave (a |as )?draft\b",
)
CANCEL = re.compile(r"\bcancel\w*\b|\bdon't want (it|the order|my order) any ?more\b|\bstop (the|my) order\b")
PERSON = any_of(
    r"\b(speak|talk|chat|connect|put me|transfer|pass me|hand me)\b.{0,30}"
    r"\b(human|person|someone|somebody|agent|representative|colleague|manager|supervisor)\b",
    r"\b(want|need|get|give|have) (me )?(a |an )?(real |live )?(human|person|manager|supervisor|representative)\b",
    r"^(a |an )?(real |live )?(human|person|agent|representative)(,? please)?$|\b(person|human),? please\b",
    r"\breal person\b|\bhand (it|me|this) over\b",
)
THREAT = any_of(
    r"\blawyers?\b|\blawsuits?\b|\bsue\b|\bsuing\b|\blegal action\b|\bcourt\b|\battorney\b|\bpolice\b",
    r"\bchargeback\b|\bconsumer protection\b",
    r"\btrading standards\b|\bjournalist\b|\bpress\b(?! the)|\bsmok(e|ed|ing)\b|\bcaught fire\b|\bon fire\b",
    r"\bburn(ed|t|s)\b|\binjur|\belectric shock\b|\bexplod",
    r"\bkill (you|myself)\b|\bhurt (you|myself)\b|\bfind you\b|\bbomb\b|\bhospital\b",
)
COMPLAINT = any_of(
    r"\bcomplain(t|ts|ing)?\b|\bunacceptable\b|\bworst\b|\bscam(mers?)?\b|\bfraud|\bdisgust|\bterrible\b",
    r"\bridiculous\b|\bfurious\b|\bnever (buy|order)ing? (here )?again\b",
)
OFF_TOPIC = any_of(
    r"\bweather\b|\bpoem\b|\bjokes?\b|\brecipes?\b|\bstocks?\b|\bbitcoin\b|\bcrypto|\bpolitic|\bpresident\b",
    r"\belection|\btranslate\b|\bhomework\b",
    r"\bpython\b|\bjavascript\b|\bessay\b|\bfootball\b|\bdoctor\b|\bmedic(al|ine)\b|\bhoroscope\b|\bmovies?\b",
    r"\bsongs?\b|\bcapital of\b|\blottery\b",
    r"\bwrite (me )?(a |some )?(code|program|story)\b|\bmeaning of life\b|\bdating\b|\bmath",
    r"\bhow old are you\b",
)
GREETING = re.compile(r"^(hi|hello|hey|hiya|good (morning|afternoon|evening|day)|greetings|yo|moin|dear .{0,20})\b")
THANKS = re.compile(r"^no\W*$|\b(thanks?|thank you|thx|ty|cheers|great|perfect|awesome|bye|goodbye)\b")
YES = re.compile(r"^(yes|yeah|yep|yup|sure|ok|okay|please do|do it|go ahead)\b.{0,20}$")
OTHER = re.compile(r"\b(other|second|remaining)\b.{0,12}\b(order|one|parcel|package|delivery)\b")
WHERE = re.compile(r"\bwhere\b")
