/** What the server shows on TLS: its own X509-SVID. */
export interface ServerCertificate {
  /** Leaf and intermediates. */
  readonly chainPem: string;
  /** PKCS#8. */
  readonly keyPem: string;
  readonly notAfterMs: number;
}
