"""Reads what `vorpal-fuzz xml-list` prints with expat, and with libxml2 if lxml is there, and compares the trees.

Most servers and clients of XMPP read with one of the two: `vorpal-fuzz xml-list 200000 | python3 others.py`.
"""

import sys
import xml.parsers.expat

try:
    import lxml.etree
except ImportError:
    lxml = None


def expat(document):
    out, text = [], []

    def flush():
        if text:
            out.append("\x01T" + "".join(text))
            text.clear()

    def split(name):
        ns, _, local = name.rpartition("\x03")
        return ns + "\x02" + local

    def start(name, attrs):
        flush()
        out.append("\x01E" + split(name))
        out.extend(sorted("\x01A" + split(k) + "\x02" + v for k, v in attrs.items()))

    def end(_):
        flush()
        out.append("\x01Z")

    parser = xml.parsers.expat.ParserCreate("utf-8", "\x03")
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text.append
    parser.Parse(document, True)
    # Without the stream around it.
    return "".join(out[1:-1])


def libxml2(document):
    out = []

    def name(tag):
        ns, _, local = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
        return ns + "\x02" + local

    def walk(element):
        out.append("\x01E" + name(element.tag))
        out.extend(sorted("\x01A" + name(k) + "\x02" + v for k, v in element.attrib.items()))
        inside(element)
        out.append("\x01Z")

    def inside(element):
        if element.text:
            out.append("\x01T" + element.text)
        for child in element:
            walk(child)
            if child.tail:
                out.append("\x01T" + child.tail)

    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True)
    inside(lxml.etree.fromstring(document, parser))
    return "".join(out)


def sort_attrs(dump):
    """Attributes of one element in the order of their text."""
    out, attrs = [], []
    for piece in dump.split("\x01")[1:]:
        if piece.startswith("A"):
            attrs.append("\x01" + piece)
        else:
            out.extend(sorted(attrs))
            attrs = []
            out.append("\x01" + piece)
    return "".join(out)


def main():
    parsers = {"expat": expat} | ({"libxml2": libxml2} if lxml else {})
    seen = {}
    for line in sys.stdin:
        kind, document, tree = line.split()
        document, tree = bytes.fromhex(document), sort_attrs(bytes.fromhex(tree).decode())
        for who, read in parsers.items():
            try:
                theirs = read(document)
                verdict = "same" if theirs == tree else "DIFFERENT"
            except Exception as error:
                theirs, verdict = error, "REFUSED " + type(error).__name__
            key = (who, kind, verdict)
            seen[key] = seen.get(key, 0) + 1
            if verdict != "same" and seen[key] <= 20 and (kind != "odd" or verdict == "DIFFERENT"):
                print(who, kind, verdict, document, repr(theirs)[:300])
    for key, count in sorted(seen.items()):
        print(*key, count)
    # Legal, but known to be refused by one or the other: names that are not ASCII, namespaces that are no URIs.
    sys.exit(any(verdict != "same" and kind != "odd" or verdict == "DIFFERENT" for _, kind, verdict in seen))


main()
