package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// TLSConfig is what clients of a server with TLS need, nil for any other.
func (i *Instance) TLSConfig() *tls.Config {
	if i.secure == nil {
		return nil
	}
	return i.secure.Clone()
}

// CAFile is the PEM file of the authority that signed the server's certificate.
func (i *Instance) CAFile() string { return i.caFile }

// secureLines makes a certificate that is its own authority.
func (i *Instance) secureLines() []string {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redistest"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		i.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	i.caFile = filepath.Join(i.dir, "cert.pem")
	keyFile := filepath.Join(i.dir, "key.pem")
	if err := os.WriteFile(i.caFile, certPEM, 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		i.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	i.secure = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return []string{
		"port 0", "tls-port " + strconv.Itoa(i.port), "tls-auth-clients no",
		"tls-cert-file " + i.caFile, "tls-key-file " + keyFile, "tls-ca-cert-file " + i.caFile,
	}
}
