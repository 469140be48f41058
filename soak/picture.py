"""The samples of a soak as a picture: one small chart for each figure, one below the other, as SVG."""

from html import escape

WIDTH, LEFT, RIGHT, TOP = 900, 20, 20, 46
CHART, GAP = 78, 34
# The room that a word needs; one without it is left out.
WORD = 50
LINE, GRID, TEXT, MARK = "#2f6fab", "#dddddd", "#333333", "#b8860b"


def draw(samples: list, titles: dict, marks: list, caption: str) -> str:
    """`marks` are moments in seconds, each with a word."""
    figures = [figure for figure in titles if any(figure in sample for sample in samples)]
    height = TOP + len(figures) * (CHART + GAP) + 20
    last = max(sample["seconds"] for sample in samples) or 1
    x = lambda seconds: LEFT + (WIDTH - LEFT - RIGHT) * seconds / last
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="13" fill="{TEXT}">{escape(caption)}</text>',
    ]
    bottom = TOP + len(figures) * (CHART + GAP) - GAP + 6
    free = 0
    for seconds, word in marks:
        at = x(seconds)
        parts.append(f'<path d="M{at:.1f} {TOP - 8}V{bottom}" stroke="{MARK}" stroke-dasharray="3 3"/>')
        if free <= at < WIDTH - WORD:
            parts.append(f'<text x="{at + 3:.1f}" y="{TOP - 12}" fill="{MARK}">{escape(word)}</text>')
            free = at + WORD
    for row, figure in enumerate(figures):
        parts += chart(samples, figure, titles[figure], TOP + row * (CHART + GAP), x)
    length = f"{last / 60:.1f} minutes"
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{height - 8}" text-anchor="end" fill="{TEXT}">{length}</text>')
    return "\n".join([*parts, "</svg>", ""])


def chart(samples: list, figure: str, title: str, top: float, x) -> list:
    points = [(sample["seconds"], sample[figure]) for sample in samples if figure in sample]
    highest = max(value for _, value in points)
    y = lambda value: top + 16 + (CHART - 16) * (1 - value / (highest or 1))
    path = " ".join(f"{x(seconds):.1f},{y(value):.0f}" for seconds, value in thinned(points))
    label = escape(f"{title}: at most {highest:,}, at the end {points[-1][1]:,}")
    size = f'width="{WIDTH - LEFT - RIGHT}" height="{CHART - 16}"'
    return [
        f'<text x="{LEFT}" y="{top + 10}" fill="{TEXT}">{label}</text>',
        f'<rect x="{LEFT}" y="{top + 16}" {size} fill="none" stroke="{GRID}"/>',
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.2"/>',
    ]


def thinned(points: list) -> list:
    """No more points than the picture is wide: of each group the lowest and the highest, so that no peak is lost."""
    size = -(-len(points) // (WIDTH // 2))
    if size < 2:
        return points
    groups = (points[at : at + size] for at in range(0, len(points), size))
    pick = lambda group: sorted({min(group, key=lambda point: point[1]), max(group, key=lambda point: point[1])})
    return [point for group in groups for point in pick(group)]
