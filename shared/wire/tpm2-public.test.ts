import { createECDH, createHash, createPublicKey, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'bun:test';
import vectors from '../../tests/vectors/tpm2.json';
import {
  buildTpmPublic,
  computeTpmName,
  hasAttributes,
  parseTpmPublic,
  publicKeyOf,
  spkiOf,
  TPM_OBJECT,
} from './tpm2-public.ts';
import { AK_TEMPLATES, ATTESTATION_KEY, EK_TEMPLATES, ENDORSEMENT_KEY } from './tpm2-templates.ts';

const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
const areas = {
  ...vectors.endorsementKeys,
  akEcc: vectors.attestationKeys.ecc.public,
  akRsa: vectors.attestationKeys.rsa.public,
};

describe('parseTpmPublic()', () => {
  for (const [name, area] of Object.entries(areas))
    test(`reads ${name} as a TPM marshalled it, and buildTpmPublic() gives the same bytes`, () => {
      expect(Buffer.from(buildTpmPublic(parseTpmPublic(hex(area)))).toString('hex')).toBe(area);
    });

  test('finds the kinds, name algorithms and symmetric keys of the default templates', () => {
    const facts = Object.values(vectors.endorsementKeys).map((area) => {
      const { key, nameAlgorithm, symmetricBits, signingHash } = parseTpmPublic(hex(area));
      return [key.kind, nameAlgorithm, symmetricBits, signingHash];
    });
    expect(facts).toEqual([
      ['rsa', 'sha256', 128, null],
      ['ecc', 'sha256', 128, null],
      ['ecc', 'sha384', 256, null],
    ]);
  });

  test('refuses SHA-1 as the name algorithm', () => {
    const area = hex(areas.akEcc);
    area.set([0x00, 0x04], 2);
    expect(() => parseTpmPublic(area)).toThrow(
      expect.objectContaining({ reason: 'tpm_structure_unsupported' }),
    );
  });

  test('refuses an RSA exponent other than 65537, which would give one key two hashes', () => {
    const area = parseTpmPublic(hex(areas.akRsa));
    if (area.key.kind !== 'rsa') throw new Error('the vector is not RSA');
    const odd = buildTpmPublic({ ...area, key: { ...area.key, exponent: 3 } });
    expect(() => parseTpmPublic(odd)).toThrow(
      expect.objectContaining({ reason: 'tpm_structure_unsupported' }),
    );
    const spelled = buildTpmPublic({ ...area, key: { ...area.key, exponent: 65_537 } });
    expect(spkiOf(parseTpmPublic(spelled))).toEqual(spkiOf(area));
  });

  test('refuses a modulus that is shorter than its size says', () => {
    const area = parseTpmPublic(hex(areas.akRsa));
    if (area.key.kind !== 'rsa') throw new Error('the vector is not RSA');
    for (const modulus of [area.key.modulus.subarray(1), new Uint8Array(256)]) {
      const short = buildTpmPublic({ ...area, key: { ...area.key, modulus } });
      expect(() => parseTpmPublic(short)).toThrow(
        expect.objectContaining({ reason: 'tpm_structure_invalid' }),
      );
    }
  });

  test('refuses bytes after the end', () => {
    expect(() => parseTpmPublic(Buffer.concat([hex(areas.akEcc), new Uint8Array(1)]))).toThrow(
      expect.objectContaining({ reason: 'trailing_bytes' }),
    );
  });
});

describe('publicKeyOf()', () => {
  test('refuses a point that is not on the curve', () => {
    const area = parseTpmPublic(hex(areas.eccP256));
    if (area.key.kind !== 'ecc') throw new Error('the vector is not ECC');
    const moved = { ...area, key: { ...area.key, x: area.key.y } };
    expect(() => publicKeyOf(moved)).toThrow(expect.objectContaining({ reason: 'tpm_structure_invalid' }));
  });

  test('takes coordinates without their leading zeros', () => {
    const { x, y } = pointWithLeadingZero();
    const area = parseTpmPublic(hex(areas.eccP256));
    const whole = { ...area, key: { kind: 'ecc', curve: 'p256', x, y } } as const;
    const short = { ...whole, key: { ...whole.key, x: x.subarray(1) } };
    expect(spkiOf(parseTpmPublic(buildTpmPublic(short)))).toEqual(spkiOf(whole));
  });
});

describe('spkiOf()', () => {
  test('gives the SubjectPublicKeyInfo that the manufacturer certified', () => {
    for (const [name, pem] of Object.entries(vectors.ekCertificates)) {
      const certified = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
      const area = parseTpmPublic(hex(vectors.endorsementKeys[name as 'rsa2048' | 'eccP384']));
      expect(Buffer.from(spkiOf(area)).equals(certified)).toBe(true);
      expect(createPublicKey({ key: Buffer.from(spkiOf(area)), type: 'spki', format: 'der' }).type).toBe(
        'public',
      );
    }
  });
});

describe('computeTpmName()', () => {
  test('is the algorithm and the digest of the area as it was marshalled', () => {
    const name = Buffer.from(computeTpmName(hex(areas.eccP384))).toString('hex');
    expect(name).toBe(`000c${createHash('sha384').update(hex(areas.eccP384)).digest('hex')}`);
  });
});

describe('hasAttributes()', () => {
  test('tells endorsement from attestation keys', () => {
    for (const area of Object.values(vectors.endorsementKeys).map((text) => parseTpmPublic(hex(text)))) {
      expect(hasAttributes(area, { required: ENDORSEMENT_KEY, forbidden: TPM_OBJECT.sign })).toBe(true);
      expect(hasAttributes(area, { required: ATTESTATION_KEY, forbidden: 0 })).toBe(false);
    }
    const ak = parseTpmPublic(hex(areas.akEcc));
    expect(hasAttributes(ak, { required: ATTESTATION_KEY, forbidden: TPM_OBJECT.decrypt })).toBe(true);
    expect(hasAttributes(ak, { required: ATTESTATION_KEY, forbidden: TPM_OBJECT.userWithAuth })).toBe(false);
  });
});

describe('the default templates', () => {
  test('are those of the keys that the TPM made, but for the key itself', () => {
    const made = { ...vectors.endorsementKeys };
    for (const [name, area] of Object.entries(made)) {
      const { key: _made, ...facts } = parseTpmPublic(hex(area));
      const { key: _template, ...template } = EK_TEMPLATES[name as keyof typeof made].area;
      expect({ ...facts, authPolicy: Buffer.from(facts.authPolicy).toString('hex') }).toEqual({
        ...template,
        authPolicy: Buffer.from(template.authPolicy).toString('hex'),
      });
    }
    expect(parseTpmPublic(hex(areas.akRsa)).attributes).toBe(AK_TEMPLATES.rsa.attributes);
  });
});

function pointWithLeadingZero(): { readonly x: Uint8Array; readonly y: Uint8Array } {
  const key = createECDH('prime256v1');
  for (let scalar = 1; scalar < 10_000; scalar++) {
    key.setPrivateKey(Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex'));
    const point = key.getPublicKey();
    if (point[1] === 0) return { x: point.subarray(1, 33), y: point.subarray(33) };
  }
  throw new Error('no such point');
}
