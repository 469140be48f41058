import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Makes the exchanges of a plan with the JDK's HttpClient and prints what it got: {@code Client.java URL PLAN}.
 *
 * <p>A plan has one exchange a line: method, target, body ("-", "length" or "chunked") and header fields, with tabs
 * between.
 */
final class Client {
    private static final byte[] BODY = "hello, \0 and goodbye\r\n".getBytes(StandardCharsets.ISO_8859_1);

    private Client() {}

    public static void main(String[] arguments) throws Exception {
        // HTTP_2, the default, would ask for an upgrade to h2c: another case's subject.
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            String[] words = line.split("\t");
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(arguments[0] + words[1]));
            for (int i = 3; i < words.length; i++) {
                String[] field = words[i].split(": ", 2);
                request.header(field[0], field[1]);
            }
            var response = client.send(request.method(words[0], body(words[2])).build(), BodyHandlers.ofByteArray());
            String body = new String(response.body(), StandardCharsets.ISO_8859_1);
            System.out.println(words[0] + " " + words[1] + " " + response.statusCode() + " " + body);
        }
    }

    private static BodyPublisher body(String kind) {
        return switch (kind) {
            case "length" -> BodyPublishers.ofByteArray(BODY);
            case "chunked" -> BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BODY));
            default -> BodyPublishers.noBody();
        };
    }
}
