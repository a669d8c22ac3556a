"""The nutrition and weight study, declared: three files in, three models of weight change out.

The definitions are in `silver/*.sql` and `models.py`, what each dataset promises is in `contracts/`, and the words that
make a food category in `food_phrases.csv`.
"""

from datetime import time, timedelta
from pathlib import Path

from pipeline.engine import ModelCard, Schedule, define, ingest, python_step, sql_step
from pipeline.study.figures import draw_figures
from pipeline.study.models import MODELS_LINEAGE, OUTCOME, fit_models
from pipeline.study.reports import write_report
from pipeline.study.synth import generate

__all__ = ["PIPELINE"]

HERE = Path(__file__).parent
SILVER = HERE / "silver"

# Names of steps are told apart by their first letters: lineage pages cut them.
PIPELINE = define(
    name="potato",
    description="How what people eat in a week goes with the next change of their weight: diary, daily totals and weigh-ins to models.",
    owner="study team",
    contracts=HERE / "contracts",
    schedule=Schedule(every=timedelta(days=1), by=time(6)),
    steps=[
        ingest("weight", source="input/weight", output="bronze/weight", description="Read the body measures; set aside what can't be one."),
        ingest("food", source="input/nutrition", output="bronze/nutrition", description="Read the food diary; set aside what can't be an entry."),
        ingest("fiber", source="input/fiber", output="bronze/fiber", description="Read the daily totals; set aside what can't be one."),
        sql_step(
            "traject",
            SILVER / "subject_trajectories.sql",
            inputs=["bronze/weight"],
            output="silver/subject_trajectories",
            description="Follow each person's weight: changes, distance from the start, slope.",
        ),
        sql_step(
            "features",
            SILVER / "weekly_features.sql",
            inputs=["bronze/fiber", "bronze/nutrition"],
            output="silver/weekly_features",
            seeds={"food_phrases": HERE / "food_phrases.csv"},
            description="Add up each person's weeks: energy, fibre, and which foods the diary mentions.",
        ),
        sql_step(
            "modeling",
            SILVER / "modeling_dataset.sql",
            inputs=["silver/subject_trajectories", "silver/weekly_features"],
            output="silver/modeling_dataset",
            description="Put each weigh-in whose next change is known beside its week's food.",
        ),
        python_step(
            "models",
            fit_models,
            inputs=["silver/modeling_dataset"],
            outputs=["gold/models"],
            column_lineage=MODELS_LINEAGE,
            description="Fit the three models of the next change of weight.",
        ),
        python_step(
            "reports",
            write_report,
            inputs=["gold/models", "silver/modeling_dataset"],
            outputs=["gold/reports"],
            description="Say in words what the models found, and what they don't show.",
        ),
        python_step(
            "figures",
            draw_figures,
            inputs=["gold/models", "silver/modeling_dataset", "silver/subject_trajectories"],
            outputs=["gold/figures"],
            description="Draw the estimates and the aggregates behind them.",
        ),
    ],
    estimates="gold/models",
    figures="gold/figures",
    headline=("fixed_effects", "fiber_g_week"),
    models={
        "ols_cluster": ModelCard(
            response=OUTCOME,
            errors="clustered by subject (CRV1)",
            description="Ordinary least squares over all weigh-ins. What goes together, not what causes what.",
        ),
        "fixed_effects": ModelCard(
            response=OUTCOME,
            errors="clustered by subject (CRV1)",
            description="Least squares within each subject: it predicts differences between a subject's weeks, and knows no subject's own level.",
        ),
        "mixed_effects": ModelCard(
            response=OUTCOME,
            errors="REML, z statistics",
            description="A random intercept by subject, fitted by REML: it predicts for a subject whose level is not known.",
        ),
    },
    sample=HERE / "sample",
    generate=generate,
)
