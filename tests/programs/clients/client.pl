# Makes the exchanges of a plan with LWP and prints what it got.
#
#     client.pl URL PLAN
#
# A plan has one exchange a line: method, target, body ("-", "length" or "chunked") and header fields, with tabs between.

use strict;
use warnings;
use HTTP::Request;
use LWP::UserAgent;

my @pieces = ("hello, ", "\0 and ", "goodbye\r\n");
my ($base, $plan) = @ARGV;
my $agent = LWP::UserAgent->new(keep_alive => 1, requests_redirectable => []);
open(my $lines, '<', $plan) or die "$plan: $!";
while (my $line = <$lines>) {
    chomp $line;
    my ($method, $target, $kind, @fields) = split /\t/, $line;
    my $request = HTTP::Request->new($method, "$base$target");
    for my $field (@fields) {
        my ($name, $value) = split /: /, $field, 2;
        # A colon keeps LWP from changing the case of a name.
        $request->push_header(":$name" => $value);
    }
    if ($kind eq 'length') {
        $request->content(join '', @pieces);
    } elsif ($kind eq 'chunked') {
        my @left = @pieces;
        $request->content(sub { shift @left });
    }
    my $response = $agent->request($request);
    print "$method $target ", $response->code, " ", unpack('H*', $response->content), "\n";
}
