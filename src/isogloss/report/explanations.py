"""Fixed texts of a report: captions of figures, and how to read it."""

from collections.abc import Mapping

CROSSED_FIGURES = ("crossed_effects", "crossed_gains")
CAPTIONS: Mapping[str, str] = {
    "crossed_effects": "The effect of kinship: what targets gain from a related source beyond what "
    "they gain from the other sources, against the equivalence margin. Over all sources, for each "
    "source, for each model, and at equal script, distance or shared vocabulary. The bold row is "
    "the one that counts.",
    "crossed_gains": "Gain of each target from each source, in points, without what the source "
    "gives to all targets and what the target gains from all sources. Outlined cells are "
    "relatives; if kinship helps, they are darker than the others of their row and column.",
    "gains": "Gain per language with its 95% interval, clustered by passage. Pale bars are group "
    "means; with several models, small dots are single models (the table of gains by model names "
    "them).",
    "contrast": "The relatedness contrast against the equivalence margin: overall, by model, in "
    "other conditions, adjusted for differences between the languages, and against another source. "
    "The bold row is the one that counts. Arrows mark intervals that extend beyond the axis.",
    "placebo": "The same contrast with every other branch in the place of the relatives: mean gain "
    "of the branch (number of its languages in brackets) minus that of all other languages, with "
    "its 95% interval. None of the other branches holds relatives of the source, so their spread "
    "shows how much branches differ anyway.",
    "baseline": "Gain against accuracy before. Noise in the baseline alone makes weak baselines "
    "gain more; it is part of the naive slope, and the cross-fitted slope is free of it. Slopes "
    "are over related and control languages; numbered circles are means of models, the weakest "
    "first. Among many points only some are labelled, those at the edge first; the dashed line is "
    "chance.",
    "reasoning": "Gain from fine-tuning against gain from chain of thought. The dotted line marks "
    "equal gains. Both share the baseline, so its noise spreads points along that line.",
    "models": "Gain of each model in each language, in points. Bold rows are group means.",
    "parts": "Gain of free answers (invalid ones count as wrong), split into the gain of forced "
    "choices (comprehension) and the change in the gap between free and forced answers (format).",
    "before_after": "Accuracy per language before (hollow) and after (filled).",
}
HOW_TO_READ: Mapping[str, str] = {
    "Gain": "Difference in accuracy between two conditions, on the same items of one language.",
    "Relatedness contrast": "Mean gain of related languages minus mean gain of control languages; "
    "each language counts once. Test and intervals come from relabelling which languages are "
    "called related, so they generalise over languages, not over items. With several models, the "
    "same languages are relabelled in all of them.",
    "Verdict": "Equivalent if the 90% interval lies within the equivalence margin; related gain "
    "more (or less) if the 95% interval excludes zero otherwise; inconclusive if neither holds. "
    "With fewer than four branches of sources, a difference is only seen or not seen, which is no "
    "verdict on kinship. Nothing to compare where nothing was learnt; equal gains of several "
    "sources need something learnt from four branches of them. "
    "The margin is the smallest difference that matters and has to be chosen before results are "
    "seen. p, equivalence is the larger p of two one-sided tests against the margin: Welch's, or "
    "tests of matchings for the effect over all sources.",
    "One source": "A single source cannot separate kinship from what the same languages gain from "
    "any source: their script, resources or headroom. The double difference compares two sources "
    "on the same languages, so that these cancel, but not what one adapter does to a whole branch: "
    "in simulations with gains correlated within families it finds an effect that is not there in "
    "13% of studies.",
    "Placebo branches": "The contrast of every branch with three or more of the languages. Where "
    "branches without relatives of the source differ as much as its relatives do, the contrast "
    "says nothing about kinship.",
    "Whole branches and families": "Languages of a branch or family tend to gain together, so "
    "single languages are not independent. Here each branch, or family, counts once and is "
    "permuted as a whole. A family with related and control languages counts as two.",
    "Effect of kinship over all sources": "The crossed design: with an effect for each source and "
    "each target, how much more a target gains from a related source than from the others. The "
    "test matches sources with other branches than their own, all targets of a source together, so "
    "it holds when languages of a branch gain alike. It takes the sources as a sample, whose "
    "effects of kinship may differ, and asks about their mean. The robust interval beside it "
    "permutes nothing; equal gains need both 90% intervals within the margin.",
    "Minimum detectable effect": "The true contrast that a test with these languages and this "
    "spread detects in four of five studies. If it exceeds the margin, an inconclusive verdict "
    "says more about the number of languages than about kinship.",
    "Intervals": "None where there are too few languages for the relabellings that an interval "
    "needs (40 for 95%). Unbounded where the data set no limit. n/a where a quantity is not "
    "defined, such as a standard error with a single passage.",
    "Ability": "Logits of an item response model: the chance of a right answer is that of "
    "guessing, plus the rest times a logistic function of ability minus the difficulty of the "
    "item, which all languages and conditions of a model share. An equal gain in ability is a "
    "smaller gain in accuracy near 100% and near chance, so this scale is the one to read where "
    "baselines differ. No verdict rests on it.",
    "Adjusted contrast": "The contrast at equal baseline, script, number of tokens, or words "
    "of the language in public pre-training corpora, and at equal values of your own file of "
    "covariates. A curved baseline is the baseline and its square, for gains that are largest in "
    "the middle. Languages without a value are left out. It is a check: the unadjusted contrast is "
    "the one that counts. Where fewer than half of the languages of either group lie in the range "
    "of the other, adjusting would extrapolate, and no number is shown.",
    "Cross-fitted and naive": "A gain is a score minus its baseline, so noise in the baseline "
    "alone makes weak baselines gain more and makes the gains of two conditions agree. "
    "Cross-fitted slopes take baseline and gain from different passages and are free of that "
    "noise; naive slopes are not.",
    "Format and comprehension": "Free answers are greedy or generated; invalid ones are wrong. "
    "Their gain is the gain of forced choices (comprehension) plus the change in the gap between "
    "free and forced answers (format). For generated text and chain of thought, the gap also "
    "contains disagreement between the two.",
    "p, Holm": "p adjusted for the number of languages, or of models, tested together. The p of a "
    "language is the largest of three: the clustered t test, McNemar's test (single runs only), "
    "and the smallest p that its number of passages allows. It can be large where the interval, "
    "from the clustered t alone, is short. It is empty where all items changed alike.",
    "Published analysis": "What arXiv:2606.19346 computes, as far as summaries tell, on these "
    "data: McNemar's interval of each gain, and a least-squares regression of the gain on the "
    "baseline and on relatedness, with every related and control language of every model as an "
    "observation. Ours on kinship is the effect over all sources where it has a verdict, else the "
    "contrast, which is described only. The two agree in part where neither finds a difference but "
    "ours does not take that as its absence, or where both find one but ours shows that it is "
    "smaller than the margin.",
    "Files": "gains.csv, contrasts.csv and published.csv hold gains and estimates as fractions, "
    "not points.",
}
