-- The middle step of the example run: one row for each subject and week.
SELECT
    subject_id,
    week,
    avg(weight_kg) AS weight_mean_kg,
    count(weight_kg) AS weight_days
FROM bronze.weight
GROUP BY subject_id, week
ORDER BY subject_id, week
