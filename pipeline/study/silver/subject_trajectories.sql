-- silver/subject_trajectories: one row for each record of body measures, with how the weight moves.
--
-- A subject's records are taken by date; should two share one, by week and then by their place in the file, so that
-- the order is total and the same in every run.
WITH placed AS (
    SELECT
        subject_id,
        date,
        week,
        record_number,
        weight_kg,
        energy_1_10,
        mood_1_10,
        lag(weight_kg) OVER (PARTITION BY subject_id ORDER BY date, week, record_number) AS previous_weight_kg,
        lead(weight_kg) OVER (PARTITION BY subject_id ORDER BY date, week, record_number) AS next_weight_kg,
        first_value(weight_kg IGNORE NULLS) OVER (
            PARTITION BY subject_id ORDER BY date, week, record_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS baseline_weight_kg,
        -- 0, 1, 2, … along the known weights (of no use where the weight is missing).
        count(weight_kg) OVER (
            PARTITION BY subject_id ORDER BY date, week, record_number
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) - 1 AS place,
        count(weight_kg) OVER (PARTITION BY subject_id) AS known
    FROM bronze.weight
),

changes AS (
    SELECT
        subject_id,
        date,
        week,
        record_number,
        weight_kg,
        energy_1_10,
        mood_1_10,
        previous_weight_kg,
        next_weight_kg,
        weight_kg - previous_weight_kg AS delta_kg,
        baseline_weight_kg,
        weight_kg - baseline_weight_kg AS delta_from_baseline_kg,
        known,
        -- The slope against 0 … n-1 is 6 · sum((2·place - n + 1) · weight) / (n · (n² - 1)). The weights enter as their
        -- distance from the baseline, which changes nothing but leaves no digits to cancel. DECIMAL adds up exactly, so
        -- no order of threads shows; 18 decimals keep more of a distance than the DOUBLE it comes from. What doesn't
        -- fit (a distance of 10¹² kg) fails the step; the contract's 20 to 400 kg is far below.
        sum((2 * place - known + 1) * CAST(weight_kg - baseline_weight_kg AS DECIMAL(30, 18)))
            OVER (PARTITION BY subject_id) AS moment
    FROM placed
)

SELECT
    subject_id,
    date,
    week,
    weight_kg,
    energy_1_10,
    mood_1_10,
    delta_kg,
    100 * delta_kg / previous_weight_kg AS delta_kg_pct,
    next_weight_kg - weight_kg AS delta_kg_next,
    baseline_weight_kg,
    delta_from_baseline_kg,
    100 * delta_from_baseline_kg / baseline_weight_kg AS delta_from_baseline_pct,
    CASE
        WHEN known >= 3
            THEN 6 * CAST(moment AS DOUBLE) / (known * (CAST(known AS DOUBLE) * known - 1))
    END AS weight_slope_kg_per_week
FROM changes
ORDER BY subject_id, date, week, record_number
