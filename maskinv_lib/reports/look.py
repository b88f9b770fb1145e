"""The look of every figure: seaborn's style "whitegrid", with text of 0.85 times its usual size.

It is written out here because the import of seaborn takes a second, in every notebook.
"""

LOOK = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ".15"),
    **dict.fromkeys(("font.size", "axes.labelsize", "legend.title_fontsize"), 10.2),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9.35),
    **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 1.25),
    **dict.fromkeys(("xtick.minor.width", "ytick.minor.width", "grid.linewidth"), 1),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 6),
    **dict.fromkeys(("xtick.minor.size", "ytick.minor.size"), 4),
    **dict.fromkeys(("xtick.bottom", "ytick.left"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow", "patch.force_edgecolor"), True),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), ".8"),
    "font.sans-serif": ["Arial", "DejaVu Sans", "Liberation Sans", "Bitstream Vera Sans", "sans-serif"],
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "axes.titlesize": 9.5,
}
"""Setting of matplotlib -> its value in every figure."""
