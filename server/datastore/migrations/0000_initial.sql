CREATE TABLE "access_cursors" (
	"node_id" text NOT NULL,
	"epoch" text NOT NULL,
	"sequence" bigint NOT NULL,
	"hash" text NOT NULL,
	CONSTRAINT "access_cursors_node_id_epoch_pk" PRIMARY KEY("node_id","epoch")
);
--> statement-breakpoint
CREATE TABLE "access_log" (
	"node_id" text NOT NULL,
	"epoch" text NOT NULL,
	"sequence" bigint NOT NULL,
	"decision_id" text NOT NULL,
	"ts" timestamp with time zone NOT NULL,
	"direction" text NOT NULL,
	"caller_spiffe_id" text,
	"target_spiffe_id" text,
	"method" text,
	"path" text,
	"decision" text NOT NULL,
	"reason" text NOT NULL,
	"policy_version" bigint,
	"latency_us" real NOT NULL,
	"record" text NOT NULL,
	"hash" text NOT NULL,
	CONSTRAINT "access_log_node_id_epoch_sequence_pk" PRIMARY KEY("node_id","epoch","sequence")
);
--> statement-breakpoint
CREATE TABLE "change_log" (
	"sequence" bigint PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"key" text NOT NULL,
	"scope" text,
	"at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "cluster" (
	"id" integer PRIMARY KEY NOT NULL,
	"trust_domain" text NOT NULL,
	"epoch" text NOT NULL,
	"change_counter" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "issued_svids" (
	"serial" text PRIMARY KEY NOT NULL,
	"spiffe_id" text NOT NULL,
	"entry_id" uuid,
	"node_id" text NOT NULL,
	"not_before" timestamp with time zone NOT NULL,
	"not_after" timestamp with time zone NOT NULL,
	"chain_pem" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "join_tokens" (
	"token_hash" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"addresses" jsonb NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"used_at" timestamp with time zone,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "node_addresses" (
	"node_id" text NOT NULL,
	"network" text DEFAULT 'default' NOT NULL,
	"address" text NOT NULL,
	"state" text NOT NULL,
	"proof" text DEFAULT 'none' NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "node_addresses_node_id_network_address_pk" PRIMARY KEY("node_id","network","address")
);
--> statement-breakpoint
CREATE TABLE "nodes" (
	"node_id" text PRIMARY KEY NOT NULL,
	"attestation_type" text NOT NULL,
	"cert_serial" text NOT NULL,
	"previous_cert_serial" text,
	"expiry" timestamp with time zone NOT NULL,
	"selectors" jsonb NOT NULL,
	"can_reattest" boolean NOT NULL,
	"is_banned" boolean DEFAULT false NOT NULL,
	"attested_at" timestamp with time zone DEFAULT now() NOT NULL,
	"last_seen_at" timestamp with time zone DEFAULT now() NOT NULL,
	"agent_version" text DEFAULT '' NOT NULL,
	"status" jsonb
);
--> statement-breakpoint
CREATE TABLE "operator_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "operator_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"ts" timestamp with time zone DEFAULT now() NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"subject" text NOT NULL,
	"decision" text NOT NULL,
	"outcome" text NOT NULL,
	"detail" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "operators" (
	"name" text PRIMARY KEY NOT NULL,
	"roles" text[] NOT NULL,
	"cert_serial" text NOT NULL,
	"not_after" timestamp with time zone NOT NULL,
	"is_revoked" boolean DEFAULT false NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "policy_activations" (
	"target" text NOT NULL,
	"sequence" bigint NOT NULL,
	"version" bigint NOT NULL,
	"signed" jsonb NOT NULL,
	"activated_by" text NOT NULL,
	"activated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "policy_activations_target_sequence_pk" PRIMARY KEY("target","sequence")
);
--> statement-breakpoint
CREATE TABLE "policy_versions" (
	"target" text NOT NULL,
	"version" bigint NOT NULL,
	"files" jsonb NOT NULL,
	"artifact" "bytea" NOT NULL,
	"digest" text NOT NULL,
	"entrypoints" jsonb NOT NULL,
	"message" text NOT NULL,
	"created_by" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "policy_versions_target_version_pk" PRIMARY KEY("target","version")
);
--> statement-breakpoint
CREATE TABLE "registration_entries" (
	"entry_id" uuid PRIMARY KEY NOT NULL,
	"spiffe_id" text NOT NULL,
	"parent_id" text NOT NULL,
	"selectors" jsonb NOT NULL,
	"grant_hash" text NOT NULL,
	"ttl_seconds" integer NOT NULL,
	"federates_with" text[] NOT NULL,
	"dns_names" text[] NOT NULL,
	"hint" text NOT NULL,
	"listeners" jsonb NOT NULL,
	"revision" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "tpm_hosts" (
	"ek_hash" text PRIMARY KEY NOT NULL,
	"state" text NOT NULL,
	"name" text DEFAULT '' NOT NULL,
	"expected_pcrs" jsonb NOT NULL,
	"addresses" jsonb NOT NULL,
	"has_trusted_certificate" boolean DEFAULT false NOT NULL,
	"decided_by" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "trust_bundles" (
	"trust_domain" text PRIMARY KEY NOT NULL,
	"sequence" bigint NOT NULL,
	"refresh_hint_seconds" integer NOT NULL,
	"x509_authorities" jsonb NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "access_log_ts" ON "access_log" USING btree ("ts");--> statement-breakpoint
CREATE INDEX "access_log_caller" ON "access_log" USING btree ("caller_spiffe_id","ts");--> statement-breakpoint
CREATE INDEX "access_log_target" ON "access_log" USING btree ("target_spiffe_id","ts");--> statement-breakpoint
CREATE INDEX "access_log_decision_id" ON "access_log" USING btree ("decision_id");--> statement-breakpoint
CREATE INDEX "issued_svids_spiffe_id" ON "issued_svids" USING btree ("spiffe_id","not_after");--> statement-breakpoint
CREATE INDEX "issued_svids_not_after" ON "issued_svids" USING btree ("not_after");--> statement-breakpoint
CREATE UNIQUE INDEX "node_addresses_confirmed" ON "node_addresses" USING btree ("network","address") WHERE state = 'confirmed';--> statement-breakpoint
CREATE INDEX "operator_log_ts" ON "operator_log" USING btree ("ts");--> statement-breakpoint
CREATE INDEX "policy_versions_digest" ON "policy_versions" USING btree ("digest");--> statement-breakpoint
CREATE INDEX "registration_entries_parent" ON "registration_entries" USING btree ("parent_id");--> statement-breakpoint
CREATE INDEX "registration_entries_spiffe_id" ON "registration_entries" USING btree ("spiffe_id");--> statement-breakpoint
CREATE UNIQUE INDEX "registration_entries_same" ON "registration_entries" USING btree ("grant_hash");--> statement-breakpoint
CREATE UNIQUE INDEX "tpm_hosts_name" ON "tpm_hosts" USING btree ("name") WHERE name <> '';