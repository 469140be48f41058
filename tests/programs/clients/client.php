<?php
// Makes the exchanges of a plan with PHP's own HTTP stream and prints what it got.
//
//     client.php URL PLAN
//
// A plan has one exchange a line: method, target, body ("-" or "length") and header fields, with tabs between.

[, $base, $plan] = $argv;
foreach (file($plan, FILE_IGNORE_NEW_LINES) as $line) {
    [$method, $target, $kind] = $fields = explode("\t", $line);
    $options = ['method' => $method, 'header' => array_slice($fields, 3), 'ignore_errors' => true];
    $options += ['protocol_version' => 1.1, 'follow_location' => 0, 'timeout' => 20];
    if ($kind === 'length') {
        $options['content'] = "hello, \0 and goodbye\r\n";
        $options['header'][] = 'Content-Type: text/plain';
    }
    $body = file_get_contents($base . $target, false, stream_context_create(['http' => $options]));
    echo "$method $target $http_response_header[0] ", bin2hex($body), "\n";
}
