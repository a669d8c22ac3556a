-- silver/weekly_features: one row for each subject-week that the daily totals or the food diary know.
--
-- The two count weeks on their own: the daily totals have a column, the diary's week is 1 + the whole weeks since the
-- subject's first diary date. What only one of them knows is missing from the other.
WITH units AS (
    -- Whole numbers of 10⁻¹² kcal and g, which add up to the same in whatever order threads see them (sums of DOUBLE don't)
    -- and without digits cancelling when a week's values lie close. They keep nine digits of what is 0.001 or more,
    -- and a week may have up to 10⁷ kcal, some 14 years of eating. What doesn't fit fails the step.
    SELECT
        subject_id,
        week,
        CAST(total_calories * 1e12 AS BIGINT) AS calories,
        CAST(total_fiber_g * 1e12 AS BIGINT) AS fiber_g
    FROM bronze.fiber
),

totals AS (
    SELECT
        subject_id,
        week,
        sum(calories) AS calories,
        sum(CAST(calories AS HUGEINT) * calories) AS calories_squares,
        count(calories) AS calories_days,
        sum(fiber_g) AS fiber_g,
        sum(CAST(fiber_g AS HUGEINT) * fiber_g) AS fiber_g_squares,
        count(fiber_g) AS fiber_days
    FROM units
    GROUP BY subject_id, week
),

weekly_totals AS (
    -- The variance is (n · sum of squares − square of the sum) / (n · (n − 1)), the numerator as a whole number.
    SELECT
        subject_id,
        week,
        calories / 1e12 AS calories_sum,
        CASE
            WHEN calories_days > 1
                THEN sqrt((calories_days * calories_squares - calories * calories) / (calories_days * (calories_days - 1))) / 1e12
        END AS calories_std,
        calories_days,
        fiber_g / 1e12 AS fiber_g_sum,
        CASE
            WHEN fiber_days > 1
                THEN sqrt((fiber_days * fiber_g_squares - fiber_g * fiber_g) / (fiber_days * (fiber_days - 1))) / 1e12
        END AS fiber_g_std,
        fiber_days
    FROM totals
),

-- One expression a category, from the seed. Alternatives are tried in their order, and one counts only if a word ends
-- with it. RE2's \b is ASCII. Letters lose their case by translate, here and in the diary: lower() and (?i) also take the
-- Kelvin sign for a k and the long s for an s. A phrase is text, whatever signs it has, hence regexp_escape.
phrases AS (
    SELECT
        category,
        rank,
        regexp_escape(translate(phrase, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')) AS phrase
    FROM seed.food_phrases
    WHERE phrase <> ''
),

patterns AS (
    SELECT
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'potato') || ')\b' AS potato,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'beans') || ')\b' AS beans,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'rice') || ')\b' AS rice,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'oats') || ')\b' AS oats,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'bread') || ')\b' AS bread,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'fruit') || ')\b' AS fruit,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'vegetables') || ')\b' AS vegetables,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'dairy') || ')\b' AS dairy,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'meat') || ')\b' AS meat,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'egg') || ')\b' AS egg,
        '\b(?:' || string_agg(phrase, '|' ORDER BY rank, phrase) FILTER (WHERE category = 'nuts') || ')\b' AS nuts
    FROM phrases
),

-- Each text of the diary once (there are thousands against millions of lines), a hundred to a block: a pattern that comes
-- from a table is compiled for each row, which takes longer than to search a hundred texts. Which texts share a block
-- has no influence on the result.
texts AS (
    SELECT
        food_item,
        row_number() OVER () // 100 AS block
    FROM (SELECT DISTINCT food_item FROM bronze.nutrition WHERE food_item IS NOT NULL) AS diary_texts
),

blocks AS (
    SELECT list(food_item) AS food_items
    FROM texts
    GROUP BY block
),

-- One text of a block, with character 31 between its parts. Their own 30 and 31 give way to 29, which is no letter either.
joined AS (
    SELECT
        food_items,
        array_to_string(
            list_transform(
                food_items,
                lambda food_item :
                    translate(food_item, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' || chr(30) || chr(31), 'abcdefghijklmnopqrstuvwxyz' || chr(29) || chr(29))
            ),
            chr(31)
        ) AS text
    FROM blocks
),

-- Each mention becomes one character 30.
marked AS (
    SELECT
        food_items,
        regexp_replace(text, potato, chr(30), 'g') AS potato,
        regexp_replace(text, beans, chr(30), 'g') AS beans,
        regexp_replace(text, rice, chr(30), 'g') AS rice,
        regexp_replace(text, oats, chr(30), 'g') AS oats,
        regexp_replace(text, bread, chr(30), 'g') AS bread,
        regexp_replace(text, fruit, chr(30), 'g') AS fruit,
        regexp_replace(text, vegetables, chr(30), 'g') AS vegetables,
        regexp_replace(text, dairy, chr(30), 'g') AS dairy,
        regexp_replace(text, meat, chr(30), 'g') AS meat,
        regexp_replace(text, egg, chr(30), 'g') AS egg,
        regexp_replace(text, nuts, chr(30), 'g') AS nuts
    FROM joined
    CROSS JOIN patterns
),

-- Of the rest only the 31s are kept, and the block is taken apart at them: a text is now as long as it has mentions.
marks AS (
    SELECT
        unnest(food_items) AS food_item,
        unnest(string_split(regexp_replace(potato, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS potato,
        unnest(string_split(regexp_replace(beans, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS beans,
        unnest(string_split(regexp_replace(rice, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS rice,
        unnest(string_split(regexp_replace(oats, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS oats,
        unnest(string_split(regexp_replace(bread, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS bread,
        unnest(string_split(regexp_replace(fruit, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS fruit,
        unnest(string_split(regexp_replace(vegetables, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS vegetables,
        unnest(string_split(regexp_replace(dairy, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS dairy,
        unnest(string_split(regexp_replace(meat, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS meat,
        unnest(string_split(regexp_replace(egg, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS egg,
        unnest(string_split(regexp_replace(nuts, '[^\x1E\x1F]+', '', 'g'), chr(31))) AS nuts
    FROM marked
),

mentions AS (
    SELECT
        food_item,
        length(potato) AS potato,
        length(beans) AS beans,
        length(rice) AS rice,
        length(oats) AS oats,
        length(bread) AS bread,
        length(fruit) AS fruit,
        length(vegetables) AS vegetables,
        length(dairy) AS dairy,
        length(meat) AS meat,
        length(egg) AS egg,
        length(nuts) AS nuts
    FROM marks
),

starts AS (
    SELECT
        subject_id,
        min(date) AS first_date
    FROM bronze.nutrition
    GROUP BY subject_id
),

weekly_diary AS (
    -- Both joins are LEFT, though each line finds its start: the planner then knows that the diary is the larger side.
    SELECT
        diary.subject_id,
        1 + (diary.date - starts.first_date) // 7 AS week,
        CAST(coalesce(sum(mentions.potato), 0) AS BIGINT) AS potato,
        CAST(coalesce(sum(mentions.beans), 0) AS BIGINT) AS beans,
        CAST(coalesce(sum(mentions.rice), 0) AS BIGINT) AS rice,
        CAST(coalesce(sum(mentions.oats), 0) AS BIGINT) AS oats,
        CAST(coalesce(sum(mentions.bread), 0) AS BIGINT) AS bread,
        CAST(coalesce(sum(mentions.fruit), 0) AS BIGINT) AS fruit,
        CAST(coalesce(sum(mentions.vegetables), 0) AS BIGINT) AS vegetables,
        CAST(coalesce(sum(mentions.dairy), 0) AS BIGINT) AS dairy,
        CAST(coalesce(sum(mentions.meat), 0) AS BIGINT) AS meat,
        CAST(coalesce(sum(mentions.egg), 0) AS BIGINT) AS egg,
        CAST(coalesce(sum(mentions.nuts), 0) AS BIGINT) AS nuts,
        count(*) AS entries
    FROM bronze.nutrition AS diary
    LEFT JOIN starts ON diary.subject_id = starts.subject_id
    LEFT JOIN mentions ON diary.food_item = mentions.food_item
    GROUP BY diary.subject_id, 1 + (diary.date - starts.first_date) // 7
),

-- In order before most columns are worked out, which keeps it: half as wide, a row is quicker to sort.
weeks AS (
    SELECT
        coalesce(weekly_totals.subject_id, weekly_diary.subject_id) AS subject_id,
        coalesce(weekly_totals.week, weekly_diary.week) AS week,
        weekly_totals.calories_sum,
        weekly_totals.calories_std,
        weekly_totals.calories_days,
        weekly_totals.fiber_g_sum,
        weekly_totals.fiber_g_std,
        weekly_totals.fiber_days,
        weekly_diary.potato,
        weekly_diary.beans,
        weekly_diary.rice,
        weekly_diary.oats,
        weekly_diary.bread,
        weekly_diary.fruit,
        weekly_diary.vegetables,
        weekly_diary.dairy,
        weekly_diary.meat,
        weekly_diary.egg,
        weekly_diary.nuts,
        weekly_diary.entries
    FROM weekly_totals
    FULL OUTER JOIN weekly_diary ON weekly_totals.subject_id = weekly_diary.subject_id AND weekly_totals.week = weekly_diary.week
    ORDER BY 1, 2
)

SELECT
    subject_id,
    week,
    calories_sum / calories_days AS calories_mean,
    calories_sum,
    calories_std,
    calories_days,
    fiber_g_sum / fiber_days AS fiber_g_mean,
    fiber_g_sum,
    fiber_g_std,
    fiber_days,
    calories_sum AS calories_week,
    fiber_g_sum AS fiber_g_week,
    calories_sum / calories_days AS calories_day_avg,
    fiber_g_sum / fiber_days AS fiber_g_day_avg,
    CASE WHEN calories_sum <> 0 THEN 1000 * fiber_g_sum / calories_sum END AS fiber_per_1000_cal,
    potato AS potato_mentions,
    CAST(potato > 0 AS BIGINT) AS potato_week,
    beans AS beans_mentions,
    CAST(beans > 0 AS BIGINT) AS beans_week,
    rice AS rice_mentions,
    CAST(rice > 0 AS BIGINT) AS rice_week,
    oats AS oats_mentions,
    CAST(oats > 0 AS BIGINT) AS oats_week,
    bread AS bread_mentions,
    CAST(bread > 0 AS BIGINT) AS bread_week,
    fruit AS fruit_mentions,
    CAST(fruit > 0 AS BIGINT) AS fruit_week,
    vegetables AS vegetables_mentions,
    CAST(vegetables > 0 AS BIGINT) AS vegetables_week,
    dairy AS dairy_mentions,
    CAST(dairy > 0 AS BIGINT) AS dairy_week,
    meat AS meat_mentions,
    CAST(meat > 0 AS BIGINT) AS meat_week,
    egg AS egg_mentions,
    CAST(egg > 0 AS BIGINT) AS egg_week,
    nuts AS nuts_mentions,
    CAST(nuts > 0 AS BIGINT) AS nuts_week,
    CAST(potato > 0 AS BIGINT)
    + CAST(beans > 0 AS BIGINT)
    + CAST(rice > 0 AS BIGINT)
    + CAST(oats > 0 AS BIGINT)
    + CAST(bread > 0 AS BIGINT)
    + CAST(fruit > 0 AS BIGINT)
    + CAST(vegetables > 0 AS BIGINT)
    + CAST(dairy > 0 AS BIGINT)
    + CAST(meat > 0 AS BIGINT)
    + CAST(egg > 0 AS BIGINT)
    + CAST(nuts > 0 AS BIGINT) AS food_variety_categories,
    entries AS food_entries_week
FROM weeks
