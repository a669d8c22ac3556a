"""Words that may stand in an error message or a log line without being a value of somebody's row.

Drawn from the message texts in the sources of DuckDB, pandas, NumPy, statsmodels, PyArrow and the standard library (words
that occur in four or more of them), the operating system's error texts, and Goldtrace's own vocabulary; words that are foods,
names of persons or measures of a body were taken out. `privacy.py` says how the list is used.
"""

from typing import Final

_TEXT: Final = """
a abort aborted about above abs accept accepted accepts access accessing accessor active actual add added adding addition additional address adjust after
again against aggregate aggregates aggregation ahead algorithm alias aliases align aligned alignment all allocate allocator allow allowed along alpha
already also alter alternative always ambiguity ambiguous among an anchor and annotated annotation another answered any api appear appears append appended
appender applied apply applying appropriate approximate arbitrary archive are aren arg args argument arguments arr array arrays arrow as ascending ascii
assemble assign assignment astype asymptotic at attach attached attempt attempted attempting attempts attribute attributes auto automatic automatically
autoregressive available average avoid avoided aware axes axis back backed backend background backward bad bare base based batch batches be because been
before began begin begins behavior being below best better between big bigger bigint bin binary bind binder binding bindings bins bit bits blob block
blocks body bool boolean both bound boundary bounds broadcast broken bronze buffer buffers bug build built builtin busy but by byte bytes cache cached
calculate calculated call callable callables callback called calling calls can canceled candidate cannot canonical cant capacity carried case cast casted
casting casts catalog categorical categoricaldtype categoricalindex categoricals categories category caused center change changed channel character
characters check checking checkpoint checks child children choice choose chunk chunks chunksize class classes clause cleaning client close closed closing
cluster clustered clusters code codes coerce coint col collation collection collections collinear color cols column columns com combination combine
combined come command comment commit common communication compare comparison compatible compile compiled compiler complete completed complex component
components compress compressed compression compute computed computing concat concatenate concrete concurrent cond condition config configuration conflict
conflicting conflicts connect connected connection consecutive consider consistent constant constants constraint constraints construct constructor contain
contained containing contains contents context contract contrast converge converged convergence conversion convert converted convertible converting
converts coordinate coordinates copy core correct correlated correlation corresponding corrupt corrupted could couldn count counts cov covariance create
created creating creation cross csv ctypes current currently custom cycles data database dataclass dataframe dataframes dataset datasets datatype date
dates datetime datetimeindex datetimes day days dd ddof deadlock debug decimal decimals declared decode decompression decreasing default define defined
definition definitions degree degrees delete deleted delimiter delta denied dependency dependent depends deprecated depth desc describe descriptor
deserialization deserialize desired destination detach details detected determinant determine deterministic device diagonal dialect dict dictionary did
didn diff differ differencing different digit digits dim dimension dimensional dimensions direction directly directory disable disabled disk dist distance
distinct distribution divide division do docstring does doesn domain don done dot double down download driver drivers drop dropped dst dt dtype dtypes
duckdb due dummy duplicate duplicates during dynamic each early effect effects either elapsed element elements ellipsis else empty enable enabled encode
encoded encoding encountered encrypted encryption end ended endpoint ends enforce engine enough ensure entries entry entrypoint enum environment equal
error errors escape escaped estimate estimated estimates estimating estimation estimator eval evaluate evaluated even every exactly exceed exceeded
exceeds except exception exchange exclude exclusive exec execute executed execution exist existent existing exists expand expect expected expecting
expects expired explain explicit explicitly export exported exposure expr expression expressions extend extends extension extensions external extra
extract extracted factor factors factory failed failure false fast fastparquet feather fetch fewer field fields figure figures file filename files
filesystem fill filter filtering filters find fine finished finite first fit fitted fitting fix fixed flag flags float floating flush follow followed
following follows font footer for forbidden force forecast forecasts foreign form format formats formatted formula forward found four frac fractional
frame frames free freedom freq frequency from frozen full fully func function functions future gate generate generated generator generic geometry get give
given global globally gold gone got gradient greater green group groupby grouper grouping groups gzip had halted handle handled handling hardware has hash
have having header hello here hessian hex higher hold holding holds hour hours how html http https hugeint id identical identifier identifiers idx if
ignore ill illegal iloc image implement implementation implemented implicit implicitly imply import in inappropriate include included includes including
inclusive incompatible incomplete inconsistency inconsistent incorrect increasing index indexed indexer indexers indexes indexing indicates indicator
indices individual inequal inexact inf infer inferred infinity info information ingest ingested inherit init initial initialization initialize initialized
initializing inner inplace input inputs insert inside install installation installed instance instances instantiated instead int integer integers integral
intercept internal interpolate interpolation interrupted interval intervalarray intervaldtype intervalindex intervals into invalid invertible io is isn
issue issues it item items itemsize iterable iteration iterations iterator its itself join joined json keep kept key keys keyword keywords killed kind
known kwargs label labeled labels lag lags lake large larger last late latin layout leading least left legacy len length lengths less letters level levels
lib libraries library like likelihood likely likes limit line lineage linear lines link links list lists literal little load loaded loading loc local
localize location lock locks log logging logical logs long longer loop losslessly lost low lower lttb machine made main make malformed manager manually
many map mapped mapping mappings marked mask masked match matched matches matching matplotlib matrices matrix max maximum may mean means medium member
members memory merge merged message meta metadata method methods metrics microsecond microseconds might min minimum minute minutes mismatch mismatched
missing mix mixed mmap mode model models modified module monotonic monotonically month more most move moving much multi multibyte multidimensional
multiindex multiple multiplication multiply multiprocessing must na naive name named namedtuple names nan nanoseconds nans nat ndarray ndim nearest need
needed needs negative neither nested network new newline news next no node non none nonsingular nor norm not note nothing now np nrows ns null nullptr
nulls num numba number numbers numeric numerical numpy obj object objects observation observations observed obtain occur occurred occurs of off offset
offsets ok ols on once one only oos op open opened opener opening operand operands operation operations operator ops optimizer option optional options or
order ordered ordering orders org origin original os other otherwise out outer output outside over overflow overlap overlapping overloads override
overwrite own owned owner package pad page pandas param parameter parameters params parent parquet parse parsed parser parsing part partial partition
partitioning pass passed passing path paths pattern pd pdf peer per percentiles perfect perform performed period perioddtype periodindex periods
permission permitted persistent phase physical pickle pipe pipeline pivot plan platform please plot plots point pointer points polynomial pool population
pos position positional positions positive possible power pragma pre preceding precision predicate predict predicted prediction prefix prepared present
preserve previous previously primary prior probabilities problem process processes produce produced profiling progress projection properly property
protocol protocols provide provided provider provides providing public published py pyarrow python qualified quantile quarantine query quota quote
quotechar quoted quotes raise random randrange range rank ratio re reached read reader reading reads real rebuild received recognized record records
recoverable recursion recursive reduce refer reference referenced references referencing refused regex regexp register registered regression regressors
reindex reinterpret rejected rejects relation relative release released remap reml remote remove removed removing rename render renderer repeat repeated
repetition replace replacement report reported repository represent representation represented request requested require required requires reserve
reserved reservoir reset residual residuals resolution resolutions resolve resolved resource resources restarted result resulted resulting results retries
retry return returned returning returns revoked rewrite right robust rollback root rotation round route row rowid rows rule run running runs safe same
sample samples sampling satisfy scalar scalars scale scan scanner schedule schema schemas scope score search second section see seek seems seen segment
segments select selected selection self semaphores send sep separator sequence sequences serialization serialize serialized series service session set
setitem setting settings severed shape shapes share shared shares sheet shift should show shutdown side sigint sigma sign signal signature sigterm silver
simulation simultaneously since single singular sink size sizes skip skipped slice slices slicing slope slot slow small smaller smallint sniffer sniffing
so socket software solution some something sort sorted source sources space span spans spec special specific specification specified specifier specifies
specify specifying splice split sql sqlalchemy sqlite square stack stage stale start started starting state statement statements states stationarity
stationary statistic statistics stats statsmodels status std step steps still stop stopped storage store stored storer str strategy stream streams
strictly string stringarray strings strptime struct structs structure structured sub subclass subclasses subject subjects subplots subquery subscript
subset substring subtract subtraction subtype such suffix suffixes suitable sum summary supplied supply support supported supports sure switch switching
symbol symbolic synchronized syntax synthetic system systems table tables take takes target task tasks telemetry template temporarily temporary term terms
test text than that the their them then there these they third this those thread threads three threshold through time timed timedelta timedeltaindex timer
times timestamp timezone tinyint to together tolerance too took top tostring total trace traces transaction transform transformer transition transport
tree trend tried trigger true truncate truncated try trying tuple tuples twice two type typed types tzinfo udf unable unary unavailable unbound unchanged
uncompressed undefined under underflow underlying understood unequal unexpected unhandled unicode unimplemented union unique unit units unknown unless
unnamed unreachable unrecognized unrecoverable unsigned unsupported unterminated until up update updated upper uri url use used user users uses using utc
utf uuid valid validity value values var varchar variable variables variance variant varying vector vectors verification verify version versions via view
virtual vs want warning warnings was wasn we were when where which while whole whose width will window windows with within without won work worked working
works worse would wrap writable write writer writing written wrong wrote yellow yet you your zero zip zone zstd
"""

WORDS: Final = frozenset(_TEXT.split())
