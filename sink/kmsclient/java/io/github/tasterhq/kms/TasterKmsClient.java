package io.github.tasterhq.kms;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Supplier;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import org.apache.parquet.crypto.keytools.KmsClient;
// Parquet brings this copy of Jackson wherever it is used: no further dependency, no clash of versions.
import shaded.parquet.com.fasterxml.jackson.core.JsonProcessingException;
import shaded.parquet.com.fasterxml.jackson.databind.JsonNode;
import shaded.parquet.com.fasterxml.jackson.databind.ObjectMapper;
import shaded.parquet.com.fasterxml.jackson.databind.node.ObjectNode;

/**
 * The KMS client with which Spark, and everything else that stands on parquet-java, opens Parquet files that taster
 * encrypted, and encrypts files that taster opens.
 *
 * <p>Settings, in the Hadoop configuration (for Spark with {@code spark.hadoop.} in front, or as options of a reader):
 *
 * <pre>
 * parquet.crypto.factory.class         org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory
 * parquet.encryption.kms.client.class  io.github.tasterhq.kms.TasterKmsClient
 * taster.keys.accepted                 keyfile:///etc/taster/keys.json#accepted
 * taster.keys.restricted               keyfile:///etc/taster/keys.json#medic
 * </pre>
 *
 * The settings {@code taster.keys.*} are key URLs as under {@code keys:} in taster.yaml; their names do not matter. Each
 * gives what it names and nothing else. A column whose master key is not among them is refused when it is read, and the
 * other columns can be read: a missing key is a {@link KeyAccessDeniedException}, by which Parquet hides the column.
 *
 * <p>Key services:
 * <ul>
 * <li>{@code keyfile:///path/keys.json#name}, a local key file, which must lie on every machine that runs tasks;
 * <li>{@code hashivault://NAME?engine=...&namespace=...}, the transit engine of HashiCorp Vault, with VAULT_ADDR,
 *     VAULT_TOKEN, VAULT_NAMESPACE and VAULT_CACERT from the environment;
 * <li>{@code awskms://KEY?region=...&endpoint=...}, AWS KMS, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN
 *     from the environment. It knows no profiles and no roles of machines.
 * </ul>
 * {@code azurekeyvault} and {@code gcpkms} are refused with a clear error: their logins want their vendors' libraries.
 *
 * <p>A service that throttles or is away is asked again for some seconds. What it says is not shown, as it may quote what it
 * was sent: no message holds key bytes, plain or wrapped, tokens or content.
 */
public final class TasterKmsClient implements KmsClient {
    private static final String PREFIX = "taster.keys.";
    private static final String CONTEXT_KEY = "taster_zone";

    /** A place that holds master keys. */
    private interface KeyService {
        boolean holds(String masterKeyId);

        String wrap(byte[] key, String masterKeyId);

        byte[] unwrap(String wrapped, String masterKeyId);
    }

    private final List<KeyService> services = new ArrayList<>();

    @Override
    public void initialize(Configuration configuration, String kmsInstanceId, String kmsInstanceUrl, String accessToken) {
        for (String url : new TreeSet<>(configuration.getPropsWithPrefix(PREFIX).values())) {
            services.add(open(url));
        }
        if (services.isEmpty()) {
            throw new ParquetCryptoRuntimeException(
                "no key URL was given: set " + PREFIX + "default to one such as keyfile:///path/keys.json#name");
        }
    }

    @Override
    public String wrapKey(byte[] keyBytes, String masterKeyIdentifier) {
        return holding(masterKeyIdentifier).get(0).wrap(keyBytes, masterKeyIdentifier);
    }

    @Override
    public byte[] unwrapKey(String wrappedKey, String masterKeyIdentifier) {
        ParquetCryptoRuntimeException fault = null;
        for (KeyService service : holding(masterKeyIdentifier)) {
            try {
                return service.unwrap(wrappedKey, masterKeyIdentifier);
            } catch (ParquetCryptoRuntimeException e) {
                fault = fault == null ? e : fault;
            }
        }
        throw fault;
    }

    /** Zones may take keys of one name from different places, so there can be several. */
    private List<KeyService> holding(String masterKeyId) {
        List<KeyService> found = services.stream().filter(s -> s.holds(masterKeyId)).toList();
        if (found.isEmpty()) {
            throw new KeyAccessDeniedException(
                "the data wants master key \"" + masterKeyId + "\", which none of the settings " + PREFIX + "* names");
        }
        return found;
    }

    private static KeyService open(String url) {
        String scheme = url.contains("://") ? url.substring(0, url.indexOf("://")) : "";
        switch (scheme) {
            case "keyfile":
                return new KeyFile(url);
            case "hashivault":
                return new Vault(KeyUrl.parse(url, Set.of("engine"), Set.of("namespace")));
            case "awskms":
                return new Aws(KeyUrl.parse(url, Set.of("region"), Set.of("endpoint")));
            case "azurekeyvault":
            case "gcpkms":
                throw new ParquetCryptoRuntimeException(scheme + ":// is not opened by this client: its login wants the vendor's library. "
                    + "It opens keyfile://, hashivault:// and awskms://; taster-kms for Python and taster cat open all");
            default:
                throw new ParquetCryptoRuntimeException("a setting " + PREFIX + "* is no key URL: want keyfile://, hashivault:// or awskms://");
        }
    }

    /** The keys of one local file: {@code {"version":1,"keys":{"name":"<base64 of 32 bytes>"}}}. */
    private static final class KeyFile implements KeyService {
        private static final int NONCE_BYTES = 12;
        private static final int TAG_BITS = 128;
        private static final SecureRandom RANDOM = new SecureRandom();

        private final String path;
        private final Map<String, SecretKeySpec> keys;

        KeyFile(String text) {
            URI url;
            try {
                url = new URI(text);
            } catch (URISyntaxException e) {
                throw new ParquetCryptoRuntimeException("a setting " + PREFIX + "* is not a URL");
            }
            if (url.getHost() != null || url.getPath() == null || !url.getPath().startsWith("/")) {
                throw new ParquetCryptoRuntimeException(url + ": want keyfile:///path/keys.json#name, an absolute path with three slashes");
            }
            path = url.getPath();
            keys = load();
            String name = url.getFragment();
            if (name == null || name.isEmpty()) {
                return; // all keys of the file
            }
            if (!keys.containsKey(name)) {
                throw new ParquetCryptoRuntimeException("key file " + path + " has no key \"" + name + "\", only " + String.join(", ", keys.keySet()));
            }
            keys.keySet().retainAll(Set.of(name));
        }

        private Map<String, SecretKeySpec> load() {
            JsonNode root;
            try {
                Path file = Path.of(path);
                if (file.getFileSystem().supportedFileAttributeViews().contains("posix")) {
                    Set<PosixFilePermission> mode = EnumSet.copyOf(Files.getPosixFilePermissions(file));
                    mode.removeAll(EnumSet.of(PosixFilePermission.OWNER_READ, PosixFilePermission.OWNER_WRITE, PosixFilePermission.OWNER_EXECUTE));
                    if (!mode.isEmpty()) {
                        throw broken("can be read by others: make its mode 0600");
                    }
                }
                root = new ObjectMapper().readTree(Files.readAllBytes(file));
            } catch (JsonProcessingException e) {
                throw broken("is not JSON"); // what the parser says may quote a key
            } catch (NoSuchFileException e) {
                throw broken("does not exist");
            } catch (IOException e) {
                throw broken("cannot be read: " + e.getClass().getSimpleName());
            }
            if (root.path("version").asInt() != 1 || !root.path("keys").isObject()) {
                throw broken("is broken: want an object of version 1 and keys");
            }
            Map<String, SecretKeySpec> out = new TreeMap<>();
            root.get("keys").fieldNames().forEachRemaining(name -> {
                byte[] key;
                try {
                    key = Base64.getDecoder().decode(root.get("keys").get(name).asText());
                } catch (IllegalArgumentException e) {
                    key = new byte[0];
                }
                if (key.length != 32) {
                    throw broken("has a key \"" + name + "\" that is not base64 of 32 bytes");
                }
                out.put(name, new SecretKeySpec(key, "AES"));
            });
            if (out.isEmpty()) {
                throw broken("has no key");
            }
            return out;
        }

        private ParquetCryptoRuntimeException broken(String how) {
            return new ParquetCryptoRuntimeException("key file " + path + " " + how);
        }

        @Override
        public boolean holds(String masterKeyId) {
            return keys.containsKey(masterKeyId);
        }

        /** As KeyToolkit.encryptKeyLocally: base64(nonce, ciphertext, tag), the master key id as additional data. */
        @Override
        public String wrap(byte[] key, String masterKeyId) {
            byte[] nonce = new byte[NONCE_BYTES];
            RANDOM.nextBytes(nonce);
            try {
                byte[] sealed = cipher(Cipher.ENCRYPT_MODE, nonce, masterKeyId).doFinal(key);
                byte[] out = Arrays.copyOf(nonce, NONCE_BYTES + sealed.length);
                System.arraycopy(sealed, 0, out, NONCE_BYTES, sealed.length);
                return Base64.getEncoder().encodeToString(out);
            } catch (GeneralSecurityException e) {
                throw new ParquetCryptoRuntimeException("key file " + path + ", key \"" + masterKeyId + "\": cannot encrypt");
            }
        }

        @Override
        public byte[] unwrap(String wrapped, String masterKeyId) {
            try {
                byte[] sealed = Base64.getDecoder().decode(wrapped);
                if (sealed.length > NONCE_BYTES) {
                    Cipher cipher = cipher(Cipher.DECRYPT_MODE, Arrays.copyOf(sealed, NONCE_BYTES), masterKeyId);
                    return cipher.doFinal(sealed, NONCE_BYTES, sealed.length - NONCE_BYTES);
                }
            } catch (GeneralSecurityException | IllegalArgumentException e) {
                // said below: an exception of the cipher would add nothing
            }
            throw new ParquetCryptoRuntimeException(
                "key file " + path + ", key \"" + masterKeyId + "\": wrong key, or the key material was changed");
        }

        private Cipher cipher(int mode, byte[] nonce, String masterKeyId) throws GeneralSecurityException {
            Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
            cipher.init(mode, keys.get(masterKeyId), new GCMParameterSpec(TAG_BITS, nonce));
            cipher.updateAAD(masterKeyId.getBytes(StandardCharsets.UTF_8));
            return cipher;
        }
    }

    /**
     * The URL of a key in a key service, taken apart.
     *
     * @param key the service's own name of it
     * @param id the master key id without zone: the URL without what is of this machine only
     */
    private record KeyUrl(String key, Map<String, String> parameters, String id) {
        static KeyUrl parse(String url, Set<String> kept, Set<String> local) {
            String scheme = url.substring(0, url.indexOf("://"));
            String[] rest = url.substring(scheme.length() + 3).split("\\?", 2);
            String key = rest[0].startsWith("/") ? rest[0].substring(1) : rest[0];
            if (key.isEmpty() || url.contains("#")) {
                throw new ParquetCryptoRuntimeException(scheme + "://: want a key behind it, and nothing behind #");
            }
            Map<String, String> parameters = new TreeMap<>();
            StringBuilder query = new StringBuilder();
            for (String pair : rest.length == 1 ? new String[0] : rest[1].split("&")) {
                String[] parts = pair.split("=", 2);
                String name = parts[0];
                if (!kept.contains(name) && !local.contains(name) || parts.length == 1 || parts[1].isEmpty()) {
                    throw new ParquetCryptoRuntimeException(scheme + "://: an unknown or empty parameter behind ?");
                }
                parameters.put(name, URLDecoder.decode(parts[1], StandardCharsets.UTF_8));
            }
            parameters.forEach((name, value) -> {
                if (kept.contains(name)) {
                    query.append(query.isEmpty() ? "?" : "&").append(name).append('=').append(URLEncoder.encode(value, StandardCharsets.UTF_8));
                }
            });
            return new KeyUrl(key, parameters, scheme + "://" + (key.contains(":") ? "/" : "") + key + query);
        }

        /** With or without a zone, or by the service's own name of the key, under which other programs may have wrapped. */
        boolean holds(String masterKeyId) {
            return masterKeyId.split("#", 2)[0].equals(id) || masterKeyId.equals(key);
        }

        /** The zone that stands behind # in a master key id, "" if none does. */
        static String zone(String masterKeyId) {
            String[] parts = masterKeyId.split("#", 2);
            return masterKeyId.contains("://") && parts.length == 2 ? parts[1] : "";
        }
    }

    /** What a service answered. The body may quote keys: it is read, and never shown. */
    private record Answer(int status, JsonNode body) {
        boolean says(String text) {
            return body.toString().contains(text);
        }
    }

    /** Asks key services over HTTP. It follows no redirect, which would carry tokens to where nobody has sent them. */
    private static final class Http {
        private static final int ATTEMPTS = 6;
        private static final ObjectMapper JSON = new ObjectMapper();

        private final HttpClient client;

        Http(SSLContext tls) {
            HttpClient.Builder builder = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(15)).version(HttpClient.Version.HTTP_1_1);
            client = (tls == null ? builder : builder.sslContext(tls)).build();
        }

        /** Sends the same request until there is an answer that no repetition changes. */
        Answer post(String service, Supplier<HttpRequest.Builder> request, ObjectNode body) {
            String fault = "";
            for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
                try {
                    if (attempt > 0) {
                        Thread.sleep((long) ((100 << (attempt - 1)) * (0.5 + Math.random() / 2)));
                    }
                    HttpResponse<byte[]> response = client.send(
                        request.get().timeout(Duration.ofSeconds(15)).POST(HttpRequest.BodyPublishers.ofByteArray(JSON.writeValueAsBytes(body))).build(),
                        HttpResponse.BodyHandlers.ofByteArray());
                    int status = response.statusCode();
                    JsonNode answer = read(response.body());
                    boolean throttled = answer.path("__type").asText().contains("Throttling");
                    if (answer.toString().contains("message authentication failed")) { // as Vault refuses, with status 500, what was wrapped otherwise
                        return new Answer(status, answer);
                    }
                    if (status < 500 && status != 408 && status != 412 && status != 429 && status != 472 && status != 473 && !throttled) {
                        return new Answer(status, answer);
                    }
                    fault = "status " + status;
                } catch (IOException e) {
                    fault = e.getClass().getSimpleName();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    throw new ParquetCryptoRuntimeException(service + ": interrupted");
                }
            }
            throw new ParquetCryptoRuntimeException(service + " did not answer " + ATTEMPTS + " times: " + fault);
        }

        private static JsonNode read(byte[] text) {
            try {
                JsonNode node = JSON.readTree(text);
                return node.isObject() ? node : JSON.createObjectNode();
            } catch (IOException e) {
                return JSON.createObjectNode();
            }
        }
    }

    private static String environment(String name) {
        String value = System.getenv(name);
        return value == null ? "" : value;
    }

    private static byte[] decode(String text, String complaint) {
        try {
            return Base64.getDecoder().decode(text);
        } catch (IllegalArgumentException e) {
            throw new ParquetCryptoRuntimeException(complaint);
        }
    }

    /**
     * An AEAD key of Vault's transit engine. The context taster_zone=ZONE is its associated_data; the wrapped text is the
     * ciphertext as Vault returns it.
     */
    private static final class Vault implements KeyService {
        private final KeyUrl url;
        private final Http http;
        private final String address;
        private final String token;
        private final String namespace;
        private final String engine;

        Vault(KeyUrl url) {
            this.url = url;
            address = environment("VAULT_ADDR").replaceAll("/+$", "");
            token = environment("VAULT_TOKEN");
            if (address.isEmpty() || token.isEmpty()) {
                throw new ParquetCryptoRuntimeException("Vault: set VAULT_ADDR to its URL and VAULT_TOKEN to a token, on every machine that runs tasks");
            }
            namespace = url.parameters().getOrDefault("namespace", environment("VAULT_NAMESPACE"));
            engine = url.parameters().getOrDefault("engine", "transit").replaceAll("^/+|/+$", "");
            http = new Http(trust(environment("VAULT_CACERT")));
        }

        /** Trusts the certificates of a PEM file and no others; null, those of the JVM, without a file. */
        private static SSLContext trust(String file) {
            if (file.isEmpty()) {
                return null;
            }
            try (InputStream in = Files.newInputStream(Path.of(file))) {
                KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
                store.load(null, null);
                int n = 0;
                for (Certificate certificate : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                    store.setCertificateEntry("ca" + n++, certificate);
                }
                TrustManagerFactory trusted = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
                trusted.init(store);
                SSLContext tls = SSLContext.getInstance("TLS");
                tls.init(null, trusted.getTrustManagers(), null);
                return tls;
            } catch (GeneralSecurityException | IOException e) {
                throw new ParquetCryptoRuntimeException("Vault: the certificates in VAULT_CACERT cannot be read: " + e.getClass().getSimpleName());
            }
        }

        @Override
        public boolean holds(String masterKeyId) {
            return url.holds(masterKeyId);
        }

        @Override
        public String wrap(byte[] key, String masterKeyId) {
            return ask("encrypt", "plaintext", Base64.getEncoder().encodeToString(key), "ciphertext", masterKeyId);
        }

        @Override
        public byte[] unwrap(String wrapped, String masterKeyId) {
            String text = ask("decrypt", "ciphertext", wrapped, "plaintext", masterKeyId);
            return decode(text, "master key \"" + masterKeyId + "\": Vault's answer is not base64");
        }

        private String ask(String op, String name, String value, String want, String masterKeyId) {
            ObjectNode body = Http.JSON.createObjectNode().put(name, value);
            String zone = KeyUrl.zone(masterKeyId);
            if (!zone.isEmpty()) {
                body.put("associated_data", Base64.getEncoder().encodeToString((CONTEXT_KEY + "=" + zone).getBytes(StandardCharsets.UTF_8)));
            }
            String at = address + "/v1/" + engine + "/" + op + "/" + URLEncoder.encode(url.key(), StandardCharsets.UTF_8).replace("+", "%20");
            Answer answer = http.post("Vault", () -> {
                HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(at)).header("X-Vault-Token", token).header("X-Vault-Request", "true");
                return namespace.isEmpty() ? request : request.header("X-Vault-Namespace", namespace);
            }, body);
            String who = "master key \"" + masterKeyId + "\": Vault answered " + answer.status();
            if (answer.status() == 403) {
                throw new KeyAccessDeniedException(who + ": the token may not " + op + " with this key, or is no longer valid");
            }
            if (answer.status() == 404 || answer.says("key not found")) {
                throw new KeyAccessDeniedException(who + ": there is no such key in the engine " + engine);
            }
            if (answer.says("disallowed by policy")) {
                throw new KeyAccessDeniedException(who + ": that version of the key is out of service (min_decryption_version)");
            }
            if (answer.status() != 200 && op.equals("decrypt")) {
                throw new ParquetCryptoRuntimeException(who + ": what was wrapped belongs to another key or another zone, or was changed");
            }
            String text = answer.body().path("data").path(want).asText();
            if (answer.status() != 200 || text.isEmpty()) {
                throw new ParquetCryptoRuntimeException(who + ", without a " + want);
            }
            return text;
        }
    }

    /**
     * A symmetric key of AWS KMS. The zone is the member taster_zone of the encryption context; the wrapped text is the base64 of
     * the CiphertextBlob. Requests are signed by Signature Version 4:
     * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
     */
    private static final class Aws implements KeyService {
        private static final Set<String> DENIED = Set.of("AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId",
            "InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException", "NotAuthorized", "InvalidGrantTokenException",
            "DisabledException", "KMSInvalidStateException", "NotFoundException");
        private static final Set<String> WRONG = Set.of("InvalidCiphertextException", "IncorrectKeyException");

        private final KeyUrl url;
        private final String region;
        private final URI endpoint;
        private final Http http = new Http(null);

        Aws(KeyUrl url) {
            this.url = url;
            String named = url.parameters().getOrDefault("region", url.key().startsWith("arn:") ? url.key().split(":")[3] : "");
            region = named.isEmpty() ? environment("AWS_REGION") : named;
            if (region.isEmpty() || environment("AWS_ACCESS_KEY_ID").isEmpty() || environment("AWS_SECRET_ACCESS_KEY").isEmpty()) {
                throw new ParquetCryptoRuntimeException("AWS KMS: put ?region=REGION behind the key and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    + "on every machine that runs tasks; this client knows no other login");
            }
            String host = "https://kms." + region + ".amazonaws.com" + (region.startsWith("cn-") ? ".cn" : "");
            endpoint = URI.create(url.parameters().getOrDefault("endpoint", host).replaceAll("/+$", "") + "/");
            boolean loopback = Set.of("127.0.0.1", "localhost", "[::1]").contains(String.valueOf(endpoint.getHost()));
            if (!"https".equals(endpoint.getScheme()) && !("http".equals(endpoint.getScheme()) && loopback)) {
                throw new ParquetCryptoRuntimeException("AWS KMS: endpoint: want https://HOST:PORT; http:// would carry keys in clear");
            }
        }

        @Override
        public boolean holds(String masterKeyId) {
            return url.holds(masterKeyId);
        }

        @Override
        public String wrap(byte[] key, String masterKeyId) {
            ObjectNode body = Http.JSON.createObjectNode().put("KeyId", url.key()).put("Plaintext", Base64.getEncoder().encodeToString(key));
            return ask("Encrypt", body, "CiphertextBlob", masterKeyId);
        }

        @Override
        public byte[] unwrap(String wrapped, String masterKeyId) {
            decode(wrapped, "master key \"" + masterKeyId + "\": the wrapped key is not what AWS KMS returns");
            ObjectNode body = Http.JSON.createObjectNode().put("CiphertextBlob", wrapped);
            // An alias may point to a new key meanwhile; what was wrapped tells the service by which key.
            if (!url.key().startsWith("alias/") && !url.key().contains(":alias/")) {
                body.put("KeyId", url.key());
            }
            String text = ask("Decrypt", body, "Plaintext", masterKeyId);
            return decode(text, "master key \"" + masterKeyId + "\": AWS KMS's answer is not base64");
        }

        private String ask(String op, ObjectNode body, String want, String masterKeyId) {
            String zone = KeyUrl.zone(masterKeyId);
            if (!zone.isEmpty()) {
                body.putObject("EncryptionContext").put(CONTEXT_KEY, zone);
            }
            Answer answer = http.post("AWS KMS", () -> signed("TrentService." + op, body), body);
            String who = "master key \"" + masterKeyId + "\": AWS KMS answered " + answer.status();
            if (answer.status() == 200 && answer.body().hasNonNull(want)) {
                return answer.body().get(want).asText();
            }
            String code = answer.body().path("__type").asText().replaceAll(".*#", "");
            if (DENIED.contains(code)) {
                throw new KeyAccessDeniedException(who + " " + code + ": the key is missing or out of service, or this account may not use it so");
            }
            if (WRONG.contains(code)) {
                throw new ParquetCryptoRuntimeException(who + " " + code + ": what was wrapped belongs to another key or another zone, or was changed");
            }
            throw new ParquetCryptoRuntimeException(who + (code.matches("[A-Za-z]{1,60}") ? " " + code : ""));
        }

        private HttpRequest.Builder signed(String target, ObjectNode body) {
            try {
                String time = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC).format(Instant.now());
                String day = time.substring(0, 8);
                String session = environment("AWS_SESSION_TOKEN");
                TreeMap<String, String> headers = new TreeMap<>(Map.of(
                    "content-type", "application/x-amz-json-1.1", "host", endpoint.getRawAuthority(), "x-amz-date", time, "x-amz-target", target));
                if (!session.isEmpty()) {
                    headers.put("x-amz-security-token", session);
                }
                String names = String.join(";", headers.keySet());
                StringBuilder request = new StringBuilder("POST\n/\n\n");
                headers.forEach((name, value) -> request.append(name).append(':').append(value).append('\n'));
                request.append('\n').append(names).append('\n').append(sha256(Http.JSON.writeValueAsBytes(body)));
                String scope = day + "/" + region + "/kms/aws4_request";
                String text = "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + sha256(request.toString().getBytes(StandardCharsets.UTF_8));
                byte[] key = ("AWS4" + environment("AWS_SECRET_ACCESS_KEY")).getBytes(StandardCharsets.UTF_8);
                for (String part : List.of(day, region, "kms", "aws4_request", text)) {
                    Mac mac = Mac.getInstance("HmacSHA256");
                    mac.init(new SecretKeySpec(key, "HmacSHA256"));
                    key = mac.doFinal(part.getBytes(StandardCharsets.UTF_8));
                }
                headers.remove("host"); // the client's own to send
                headers.put("Authorization", "AWS4-HMAC-SHA256 Credential=" + environment("AWS_ACCESS_KEY_ID") + "/" + scope
                    + ", SignedHeaders=" + names + ", Signature=" + HexFormat.of().formatHex(key));
                HttpRequest.Builder builder = HttpRequest.newBuilder(endpoint);
                headers.forEach(builder::header);
                return builder;
            } catch (GeneralSecurityException | JsonProcessingException e) {
                throw new ParquetCryptoRuntimeException("AWS KMS: cannot sign a request: " + e.getClass().getSimpleName());
            }
        }

        private static String sha256(byte[] data) throws GeneralSecurityException {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(data));
        }
    }
}
