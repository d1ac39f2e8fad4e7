"""Patterns of the answer parser: the letters by which scripts enumerate, words around an answer."""

import re
import unicodedata

ENUMERATIONS = {
    "Latin": "A B C D E F G H I J",
    "Cyrillic": "А Б В Г Д Е Ж З И К",
    "Greek": "Α Β Γ Δ Ε Ζ",
    "Arabic": "ا ب ج د ه و ز ح ط ي",
    "Arabic, hamza": "أ ب ج د ه و ز ح ط ي",
    "Persian": "الف ب پ",
    "Persian, abjad": "الف ب ج د ه و ز ح ط ی",
    "Urdu": "الف ب ج د ہ و ز ح ط ی",
    "Hebrew": "א ב ג ד ה ו ז ח ט י",
    "Ethiopic": "ሀ ለ ሐ መ ሠ ረ ሰ ሸ ቀ በ",
    "Devanagari": "क ख ग घ ङ च छ ज झ ञ",
    "Devanagari, as A B C D": "अ ब स द",
    "Bengali": "ক খ গ ঘ ঙ চ ছ জ ঝ ঞ",
    "Tamil": "அ ஆ இ ஈ உ ஊ எ ஏ ஐ ஒ",
    "Thai": "ก ข ค ง จ ฉ ช ซ ฌ ญ",
    "Hangul": "가 나 다 라 마 바 사 아 자 차",
    "Hangul, consonants": "ㄱ ㄴ ㄷ ㄹ ㅁ ㅂ ㅅ ㅇ ㅈ ㅊ",
    "Katakana": "ア イ ウ エ オ カ キ ク ケ コ",
    "Heavenly stems": "甲 乙 丙 丁 戊 己 庚 辛 壬 癸",
}
VARIANTS = ("إ", "آ", "ألف")
LOOKS_LIKE = {"А": "A", "В": "B", "С": "C", "Е": "E", "с": "C", "е": "E"}
ONLY_CYRILLIC = re.compile(r"(?<!\w)[БГД](?!\w)")  # И and З are words

COLON = "[:׃፡፥፦∶]"
IS = (
    "is|was|would be|must be|should be|will be|est|es|é|è|ist|to|brzmi|ni|là|adalah|ialah|on|waa|"
    "hija|hi|ita ce|είναι|هي|هو|היא|הוא|हैं?|হলো?|=|->|→|–|—|-"
)
IS_ATTACHED = "应该是|應該是|是|为|為|は|が|은|는|คือ"
OPTION = (
    "option|choice|letter|opci[oó]n|opção|opzione|opsi|pilihan|optie|seçenek|вариант|варіант|"
    "επιλογή|خيار|الخيار|گزینه|אפשרות|האפשרות|विकल्प|বিকল্প"
)
OPTION_ATTACHED = "ข้อ|选项|選項|選択肢|선택지|보기"
PREDICATES = ("です", "だ", "である", "입니다", "이다", "예요", "이에요", "번")  # "B it is"
NEGATION = re.compile(r"\b(?:not?|none|neither|cannot)\b|n't\b", re.IGNORECASE)

SENTENCE = re.compile(r"[^\n]*?(?:\n|[!?。।።؟۔]|(?<=\w{4})\.(?:\s|$))")  # not "Dr."
LISTED = re.compile(r"\s*\d+[.)]\s*\S")  # a line of a numbered list
LETTER_END = re.compile(r"[)\]}*_`\"”»」』$]*(?:\n|[!。।።؟۔]|\.(?!\w))")

LATIN = tuple(ENUMERATIONS["Latin"].split())
POSITIONS = {
    cased: position
    for letters in (*ENUMERATIONS.values(), *VARIANTS)
    for position, letter in enumerate(unicodedata.normalize("NFKC", letters).split())
    for cased in (letter, letter.lower())
}
_LETTERS = "|".join(sorted({*POSITIONS, *LOOKS_LIKE}, key=lambda text: (-len(text), text)))
_OPTION = rf"(?:(?<![^\W\d_])(?:{OPTION})(?![^\W\d_])|{OPTION_ATTACHED})"
LETTER = re.compile(rf"{_LETTERS}|\d+|[፩-፱]")
POINTED = re.compile(
    rf"(?<!\w)[(\[]\s*(?P<bracketed>{_LETTERS})\s*[)\]]"
    rf"|(?i:{_OPTION})[\s:*_\"'“「(]*(?P<option>{LETTER.pattern})"
)
OPENING = re.compile(
    r"\A(?:[\s*_`#>\"'“”„«‹‘「『《【(\[{$:•·-]|\\boxed|\\text|"
    rf"(?:the |correct |right )*{_OPTION})*",
    re.IGNORECASE,
)
