"What the benchmarks share."


def table(head, rows):
    "A table in Markdown."
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in (head, ["---"]*len(head), *rows))
