SELECT count(*) AS readings, sum(value)::DOUBLE AS total
FROM bronze.canary
ORDER BY readings
