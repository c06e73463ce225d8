import type { CertificateTerms } from '../../shared/policy/egress-terms.ts';

/** An outside server as a program asks for it. */
export interface OutsideServer {
  readonly address: string;
  readonly port: number;
  /** The name that the program asks for in its ClientHello, lower case; empty without one. */
  readonly serverName: string;
}

/** Finds out which certificate an outside server proves. Port: the adapter is `handshake-certificate-check.ts`. */
export interface CertificateCheck {
  /**
   * What a server does not prove of what it must, in a sentence for people; undefined where it proves all. Whoever cannot be asked proves nothing, nor does one that is asked too
   * often at once, by all or by this `asker`. Never rejects. To be asked only of what the policy lets out: it connects there.
   */
  findFault(server: OutsideServer, terms: CertificateTerms, asker: string): Promise<string | undefined>;
}
