"""Texts that somebody may send to do harm where they are shown. Whatever runs in a page sets `window.hacked`."""

HOSTILE = {
    "script": "<script>window.hacked=1</script>",
    "image": "<img src=x onerror='window.hacked=1'>",
    "attribute": '" autofocus onfocus="window.hacked=1" x=\'',
    "closing": "</textarea></title></script></style></template><svg onload=window.hacked=1>",
    "template": "{{ 7|add:7 }}{% now 'Y' %}${7*7}",
    "address": "javascript:window.hacked=1",
    "formula": '=HYPERLINK("https://example.invalid";"x")',
    "direction": "\u202egnp.exe\u2066 \u2067abc",
    "zero-width": "in\u200bvis\u200dible\ufeff",
    "controls": "bell\x07 escape\x1b[31m line\u2028end\r\nnew",
    "spaces": "  two  spaces  ",
    "accents": "Z" + "\u0351\u0352\u0353" * 30 + "algo",
    "hebrew": "אירוע 123 (לקוח)",
    "long": "x" * 255,
    "format": "{0} {event_id} %s %(name)s {0.__class__}",
    "entities": "&lt;b&gt; &amp;amp; &#x3c;",
    "path": "../../../../etc/passwd?x=1#y&z=/",
    "surrogates": "𝕬𝖉𝖒𝖎𝖓 👩‍👩‍👧 🏴",
}
