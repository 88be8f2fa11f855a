-- What the cache holds, by model and kind.
SELECT space.model, entry.kind, count(*), sum(length(entry.value))
FROM entry JOIN space ON space.id = entry.space
GROUP BY space.model, entry.kind
ORDER BY space.model, entry.kind
