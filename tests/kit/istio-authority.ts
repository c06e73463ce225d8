import { webcrypto } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodePem } from '../../shared/wire/pem.ts';
import {
  authorityProfile,
  leafProfile,
  makeCertificate,
  x509,
  type TestCertificate,
  type TestProfile,
} from './test-authority.ts';

const HOUR_MS = 3_600_000;

/** An authority of another mesh, which signs for its own workloads: of Istio, whose operators put it below a root that is there already ("plug in CA"). */
export class IstioAuthority {
  readonly #intermediate: TestCertificate;

  private constructor(intermediate: TestCertificate) {
    this.#intermediate = intermediate;
  }

  /** Below `root`, or below a root of its own. */
  static async create(
    trustDomain: string,
    root?: { readonly certificatePem: string; readonly keyPkcs8: Uint8Array<ArrayBuffer> },
  ): Promise<IstioAuthority> {
    const issuer = root === undefined ? undefined : await readRoot(root);
    const profile: TestProfile = {
      ...authorityProfile(trustDomain),
      ...lifeOf(12),
      subject: `O=${trustDomain}, CN=istiod`,
    };
    return new IstioAuthority(await makeCertificate(profile, issuer));
  }

  /** Writes an SVID and its key into `folder`, as an Istio node has them. */
  async issue(
    spiffeId: string,
    folder: string,
  ): Promise<{ readonly certificate: string; readonly privateKey: string }> {
    const { der, keys } = await makeCertificate(
      { ...leafProfile(spiffeId), ...lifeOf(1) },
      this.#intermediate,
    );
    const name = spiffeId.replaceAll(/[^a-z]+/g, '-');
    const [certificate, privateKey] = [join(folder, `${name}.pem`), join(folder, `${name}.key`)];
    const chain = [der, this.#intermediate.der].map((one) => encodePem('CERTIFICATE', one)).join('');
    const pkcs8 = new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
    writeFileSync(certificate, chain);
    writeFileSync(privateKey, encodePem('PRIVATE KEY', pkcs8), { mode: 0o600 });
    return { certificate, privateKey };
  }
}

async function readRoot(root: {
  readonly certificatePem: string;
  readonly keyPkcs8: Uint8Array<ArrayBuffer>;
}): Promise<TestCertificate> {
  const certificate = new x509.X509Certificate(root.certificatePem);
  const publicKey = await certificate.publicKey.export();
  const { keyPkcs8 } = root;
  const privateKey = await webcrypto.subtle.importKey('pkcs8', keyPkcs8, publicKey.algorithm, true, ['sign']);
  return { der: new Uint8Array(certificate.rawData), certificate, keys: { privateKey, publicKey } };
}

function lifeOf(hours: number): { readonly notBeforeMs: number; readonly notAfterMs: number } {
  const nowMs = Date.now();
  return { notBeforeMs: nowMs - HOUR_MS, notAfterMs: nowMs + hours * HOUR_MS };
}
