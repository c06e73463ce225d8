/** What it takes to end the TLS of what leaves the mesh, so that it can be told to a process of the data path. */
export interface InspectionMaterial {
  /** The authority's certificate, PEM, followed by those above it. */
  readonly chainPem: string;
  /** The authority's key, PEM. */
  readonly keyPem: string;
  /** Certificates (PEM) of the authorities that vouch for outside servers where the policy names none. */
  readonly serverAuthoritiesPem: string;
}

/** Where it stands on disk. */
export interface InspectionFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Undefined: the authorities of this host. */
  readonly serverAuthoritiesFile: string | undefined;
}

/** The authority as status tells of it. */
export interface InspectionStatus {
  /** The subject of its certificate. */
  readonly authority: string;
  readonly notAfterMs: number;
}
