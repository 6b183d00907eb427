"""Texts for tests of the tokenizer: fixed ones and random ones. Everything here is made up for this purpose."""

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, twice; then it rests.",
    "Dr. Smith paid $1,234.56 (plus 7.5 % tax) on 2026-03-14 at 09:41:07.",
    "Zażółć gęślą jaźń! Łódź leży nad Łódką.",
    "Die Straßenbahn fährt um drei Viertel zwölf; Größe: 12 µm.",
    "L'été dernier, où étais-tu ? « Nulle part », répondit-il.",
    "El niño comió ñoquis; ¿qué más? ¡Nada!",
    "Съешь ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "עברית נכתבת מימין לשמאל, גם עם נִקּוּד.",
    "اللغة العربية جميلة، والخط يُكتب من اليمين إلى اليسار ١٢٣٤٥.",
    "हिन्दी में लिखा हुआ एक छोटा वाक्य, १२३ के साथ।",
    "বাংলা ভাষায় একটি ছোট বাক্য ১২৩।",
    "தமிழ் மொழியில் ஒரு சிறிய வாக்கியம்.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ เขียนติดกันไปเลย",
    "ქართული ენა უნიკალური დამწერლობით.",
    "Հայերեն լեզու, փոքրիկ նախադասություն։",
    "አማርኛ አጭር ዓረፍተ ነገር።",
    "中文句子之间没有空格，但是有标点符号。数字１２３和ＡＢＣ。",
    "繁體中文：龍龜鬱，罕見字𠮷𡈽㐂。",
    "日本語の文章には、漢字とひらがなとカタカナが混ざっています。",
    "한국어 문장은 띄어쓰기가 있습니다. 뷁쉛!",
    "Tiếng Việt có nhiều dấu thanh: ngã, hỏi, nặng.",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ, ᚠᚢᚦᚨᚱᚲ, 𐎠𐎡𐎢, 𒀀𒀁, 𓀀𓀁",
    "Emoji: 😀👍🏽👨‍👩‍👧‍👦🏳️‍🌈🇵🇱☂️⛄🫠🪿 and text.",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ αᵢ² ≤ ∞ ⇒ 𝔸𝕓𝒄𝟙",
    "Combining: e\u0301 a\u0308\u0323 z\u0334\u0321\u035c\u0489, Z͑ͫ̓a̡͕l̛͖g̶o",
    "Zero width: a\u200bb\u200cc\u200dd\ufeffe\u2060f; no-break\u00a0space, thin\u2009space, ideographic\u3000space.",
    "http://example.org/a/b?x=1&y=%20%E2%9C%93#frag mailto:someone@example.org",
    "C:\\Program Files\\x\\y.txt /usr/lib/x86_64-linux-gnu/libz.so.1",
    "aaaaaaa bbbbbbbb AAAAAAA 0000000 1234567890123456789 --------- ========= ~~~~~ ....... !!!!!!!",
    "camelCaseIdentifier snake_case_identifier SCREAMING_CASE kebab-case-name x86_64 utf8mb4 i18n",
    "def f(x: int) -> int:\n    \"\"\"Doc.\"\"\"\n    return [i**2 for i in range(x) if i % 2 == 0]\n",
    "#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2, 3};\n\treturn v.size() != 3 ? 1 : 0;\n}\n",
    "<!DOCTYPE html>\n<html><body><h1 class=\"x\">Hi</h1><table><tr><td>1</td></tr></table><p>a<br/>b</p></body></html>",
    "{\"key\": [1, 2.5e-10, null, true, \"a\\\"b\\u00e9\"], \"nested\": {\"x\": {}}}",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n* item\n  * item\n\n```py\nx = 1\n```\n\n> quote\n\n1. one\n2. two\n",
    "\\begin{equation} \\frac{a}{b} = \\sqrt{x^2 + y^2} \\label{eq:1} \\end{equation}",
    "SELECT name, COUNT(*) FROM t WHERE a <> 'it''s' GROUP BY 1 HAVING COUNT(*) > 10;",
]

SPECIALS = [
    "<bos><|turn>user\nWrite a long essay about Portugal.<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
    "<bos><|turn>system\n<|think|>\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n",
    "<|tool>declaration:f{description:<|\"|>x<|\"|>}<tool|><|tool_call>call:f{a:1}<tool_call|><|tool_response>response:f{}<tool_response|>",
    "<|image><|image|><image|> <|audio><|audio|><audio|><|video|>",
    "<pad><eos><bos><unk><mask>[multimodal]<unused0><unused99><unused6241>",
    "a<eos>b <eos> c\n<eos>\n<|turn|> <turn> <|turn <|tur n> <turn|<turn|>>",
    "<unused1 <unused12><unused 3> <UNUSED1> <0x41> <0x0A><0xE2><0x96><0x81> [multimodal [toxicity]",
    "<table></table><td ></td><div></div ><h1></H1><br><br/><p><i><b></i></b><code>x</code>",
    "▁ ▁▁ a▁b ▁▁▁a \u2581<bos>\u2581 <▁> ▁\n▁",
]


def fixed_texts():
    """(what it is about, text) pairs; a text is str, or bytes where it is broken UTF-8."""
    for text in SENTENCES:
        yield "sentence", text
    for text in SPECIALS:
        yield "special", text
    yield "mixed", "\n".join(SENTENCES)
    yield "mixed", " ".join(SENTENCES[::-1])
    yield "empty", ""
    for unit in [" ", "\n", "\t", "a", "A", "ab", "0", "=", "-", "▁", " a", "a ", "\n ", " \n", "\t ", "\r\n", ">", " >", "> ", "é", "中",
                 "😀", "𒀀", "\u0000", "\u0301", "<", "<<", "<bos>", "<0x41>", "ha", "lol", "the", " the", "/", "\\", "한"]:
        for count in (1, 2, 3, 15, 16, 30, 31, 32, 33, 63, 64, 65, 100):
            yield "repeat", unit * count
    for length in (1000, 5000):
        yield "long", "a" * length
        yield "long", " " * length
        yield "long", "ab ba" * (length // 5)
        yield "long", "\n \n" * (length // 3)
    yield "spaces", " leading and trailing "
    yield "spaces", "  two   three    four     five"
    yield "spaces", " ".join("x" * i for i in range(40))
    yield "newlines", "a\n\nb\n\n\nc\r\n\r\nd\n \n e\t\tf\n\t\tg"
    # Every plane, some code points of blocks in each; unassigned ones and noncharacters too.
    for plane in range(17):
        for block in (0x0000, 0x0100, 0x0900, 0x2500, 0x3000, 0x4E00, 0xAC00, 0xF900, 0xFF00):
            points = [plane << 16 | block + i for i in range(0, 256, 5 if plane < 2 else 41)]
            yield "plane", "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)
    yield "controls", "".join(chr(c) for c in range(0xA0))
    for broken in [b"\x80", b"\xff\xfe", b"a\xe2\x82z", b"\xf0\x9f\x98", b"\xc0\xaf\xe0\x80\x80", b"\xed\xa0\x80\xed\xb0\x80", b"ok \xf4\x90\x80\x80 ok",
                   bytes(range(256)), b"<bos\xff><eos>\xe2\x96 \x81"]:
        yield "broken", broken


def random_text(rng, pieces):
    """A random text of one of many kinds; str, or bytes (maybe broken UTF-8). `pieces` are the vocabulary's spellings."""
    kind = rng.randrange(13)
    size = rng.choice((1, 2, 3, 5, 8, 13, 21, 40, 80, 200))

    def point():
        while True:
            c = rng.choice((rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x10000), rng.randrange(0x110000)))
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    if kind == 0:
        return "".join(rng.choice(pieces) for _ in range(size)).replace("▁", " ")
    if kind == 1:
        return "".join(rng.choice(pieces) for _ in range(size))
    if kind == 2:
        return "".join(rng.choice("ab \n") for _ in range(size))
    if kind == 3:
        alphabet = rng.sample("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789 \n\t.,;:-_=<>/|\"'▁éßж中한😀", 5)
        return "".join(rng.choice(alphabet) for _ in range(size))
    if kind == 4:
        return "".join(point() for _ in range(size))
    if kind == 5:
        return bytes(rng.randrange(256) for _ in range(size))
    if kind == 6:  # a sentence with bytes damaged
        data = bytearray(rng.choice(SENTENCES).encode())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 7:  # special tokens in running text, whole and cut
        parts = []
        for _ in range(size % 20 + 1):
            special = rng.choice(SPECIALS)
            a = rng.randrange(len(special))
            parts.append(rng.choice((special, special[a:a + rng.randrange(1, 12)], rng.choice(SENTENCES)[:rng.randrange(1, 30)], " ", "\n")))
        return "".join(parts)
    if kind == 8:
        a, b = rng.choice(SENTENCES), rng.choice(SENTENCES)
        return a[rng.randrange(len(a)):] + b[:rng.randrange(len(b))]
    if kind == 9:
        unit = "".join(rng.choice((point(), rng.choice("ab <>\n▁"))) for _ in range(rng.randrange(1, 5)))
        return unit * size
    if kind == 10:  # characters that do have pieces, which makes for long chunks
        singles = rng.sample(pieces, 40)
        letters = [c for p in singles for c in p] or ["x"]
        return "".join(rng.choice(letters) for _ in range(size * 3))
    if kind == 11:
        words = [rng.choice(SENTENCES).split()[0] for _ in range(size % 30 + 1)]
        return "".join(w + rng.choice((" ", "  ", "\n", "", "\t", "\u00a0")) for w in words)
    text = rng.choice(SENTENCES)
    return "".join(c.upper() if rng.random() < 0.3 else c for c in text) + " " * rng.randrange(70)
