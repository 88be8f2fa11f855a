# Perl's DBD::SQLite: perl examples/hosts/perl.pl app.db "$(sqlembed path)"
use v5.36;
use DBI;

my ($database, $extension) = @ARGV;
my $db = DBI->connect("dbi:SQLite:dbname=$database", '', '', {RaiseError => 1});
$db->sqlite_enable_load_extension(1);
$db->sqlite_load_extension($extension);
$db->sqlite_enable_load_extension(0);

$db->do('CREATE TABLE sms(id INTEGER PRIMARY KEY, body TEXT)');
$db->do('INSERT INTO sms(body) VALUES (?)', undef, $_) for (
    'Are you coming home for lunch?',
    'Your parcel will be delivered tomorrow before noon',
    'I left my keys at the office, can you let me in?',
);

my ($indexed) = $db->selectrow_array(q{SELECT sqlembed_index('sms', 'body')});
say "$indexed rows indexed";

# Found at once: a search embeds what still waits for its vector.
$db->do(q{INSERT INTO sms(body) VALUES ('Dinner at 8?')});
my $nearest = $db->selectall_arrayref(q{
    SELECT k.distance, s.body
    FROM knn('sms', ?, 2) AS k JOIN sms AS s ON s.id = k.id}, undef, 'evening meal');
printf "%.2f  %s\n", @$_ for @$nearest;
