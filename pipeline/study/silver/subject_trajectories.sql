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
        ) - 1 AS place
    FROM bronze.weight
),

-- The slope against 0 … n-1 is 6 · sum((2·place - n + 1) · weight) / (n · (n² - 1)). The weights enter as their distance
-- from the baseline, which changes nothing but leaves no digits to cancel. DECIMAL adds up exactly, so no order of
-- threads shows; 18 decimals keep more of a distance than the DOUBLE it comes from. What doesn't fit (a distance of
-- 10¹² kg) fails the step; the contract's 20 to 400 kg is far below. It is worked out once for each subject, not for each row.
distances AS (
    SELECT
        subject_id,
        place,
        CAST(weight_kg - baseline_weight_kg AS DECIMAL(30, 18)) AS distance
    FROM placed
),

moments AS (
    SELECT
        subject_id,
        count(distance) AS known,
        2 * sum(place * distance) - (count(distance) - 1) * sum(distance) AS moment
    FROM distances
    GROUP BY subject_id
),

slopes AS (
    SELECT
        subject_id,
        CASE
            WHEN known >= 3
                THEN 6 * CAST(moment AS DOUBLE) / (known * (CAST(known AS DOUBLE) * known - 1))
        END AS weight_slope_kg_per_week
    FROM moments
)

SELECT
    placed.subject_id,
    placed.date,
    placed.week,
    placed.weight_kg,
    placed.energy_1_10,
    placed.mood_1_10,
    placed.weight_kg - placed.previous_weight_kg AS delta_kg,
    100 * (placed.weight_kg - placed.previous_weight_kg) / placed.previous_weight_kg AS delta_kg_pct,
    placed.next_weight_kg - placed.weight_kg AS delta_kg_next,
    placed.baseline_weight_kg,
    placed.weight_kg - placed.baseline_weight_kg AS delta_from_baseline_kg,
    100 * (placed.weight_kg - placed.baseline_weight_kg) / placed.baseline_weight_kg AS delta_from_baseline_pct,
    slopes.weight_slope_kg_per_week
FROM placed
LEFT JOIN slopes ON placed.subject_id = slopes.subject_id
ORDER BY placed.subject_id, placed.date, placed.week, placed.record_number
