import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsExchange;
import com.sun.net.httpserver.HttpsParameters;
import com.sun.net.httpserver.HttpsServer;
import java.io.FileInputStream;
import java.math.BigInteger;
import java.net.InetSocketAddress;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Locale;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * The JDK's HTTPS server, for clients with a certificate: {@code Server.java PORT PKCS12 AUTHORITY}.
 *
 * <p>It answers each request with the serial number of its client's certificate.
 */
final class Server {
    private static final char[] PASSWORD = "secret".toCharArray();

    private Server() {}

    public static void main(String[] arguments) throws Exception {
        KeyStore own = KeyStore.getInstance("PKCS12");
        try (var file = new FileInputStream(arguments[1])) {
            own.load(file, PASSWORD);
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(own, PASSWORD);
        KeyStore authorities = KeyStore.getInstance("PKCS12");
        authorities.load(null, null);
        try (var file = new FileInputStream(arguments[2])) {
            var certificate = CertificateFactory.getInstance("X.509").generateCertificate(file);
            authorities.setCertificateEntry("clients", certificate);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(authorities);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);

        HttpsServer server = HttpsServer.create(new InetSocketAddress(Integer.parseInt(arguments[0])), 64);
        server.setHttpsConfigurator(new HttpsConfigurator(context) {
            @Override
            public void configure(HttpsParameters parameters) {
                SSLParameters wanted = getSSLContext().getDefaultSSLParameters();
                wanted.setNeedClientAuth(true);
                parameters.setSSLParameters(wanted);
            }
        });
        server.createContext("/", exchange -> {
            var chain = ((HttpsExchange) exchange).getSSLSession().getPeerCertificates();
            BigInteger serial = ((X509Certificate) chain[0]).getSerialNumber();
            String text = "client: " + serial.toString(16).toUpperCase(Locale.ROOT) + "; over: " + exchange.getProtocol();
            exchange.sendResponseHeaders(200, text.length());
            try (var body = exchange.getResponseBody()) {
                body.write(text.getBytes());
            }
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
    }
}
