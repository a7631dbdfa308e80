# One lake of one environment. Environments differ by the values in envs/ alone: no module asks which one it is in.

provider "aws" {
  region              = var.region
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "lakehouse"
      Environment = var.environment
      ManagedBy   = "opentofu"
    }
  }
}

locals {
  name         = "lakehouse-${var.environment}"
  glue_prefix  = "lakehouse_${var.environment}"
  lake_bucket  = "${local.name}-lake-${var.account_id}"
  work_bucket  = "${local.name}-work-${var.account_id}"
  cluster_name = local.name
  services     = concat(["webserver", "daemon", "code"], var.viewers > 0 ? ["viewer"] : [])
  log_groups   = concat(["webserver", "viewer", "daemon", "code", "run"], var.trino.enabled ? ["trino"] : [])
}

module "observability" {
  source = "./modules/observability"

  name                  = local.name
  environment           = var.environment
  region                = var.region
  account_id            = var.account_id
  cluster_name          = local.cluster_name
  log_groups            = local.log_groups
  log_retention_days    = var.log_retention_days
  services              = var.trino.enabled ? concat(local.services, ["trino-coordinator"]) : local.services
  database_identifier   = local.name
  database_free_minimum = var.database.storage_gb * 1024 * 1024 * 1024 / 10
  load_balancer         = module.orchestration.load_balancer
  alarm_emails          = var.alarm_emails
  monthly_budget_usd    = var.monthly_budget_usd
}

module "network" {
  source = "./modules/network"

  name                = local.name
  region              = var.region
  cidr                = var.vpc_cidr
  zones               = var.availability_zones
  nat_gateways        = var.nat_gateways
  interface_endpoints = var.interface_endpoints
  readable_buckets    = [local.lake_bucket, local.work_bucket, var.archive_bucket]
  writable_buckets    = [local.lake_bucket, local.work_bucket]
  kms_key_arn         = module.observability.kms_key_arn
  log_retention_days  = var.log_retention_days
}

module "lake" {
  source = "./modules/lake"

  name           = local.name
  account_id     = var.account_id
  lake_bucket    = local.lake_bucket
  work_bucket    = local.work_bucket
  access_log_to  = "${local.name}-logs-${var.account_id}"
  allow_deletion = var.allow_deletion
}

module "catalog" {
  source = "./modules/catalog"

  name                  = local.name
  glue_prefix           = local.glue_prefix
  lake_root             = module.lake.access.root
  work_bucket           = module.lake.work_bucket
  kms_key_arn           = module.lake.kms_key_arn
  scanned_bytes_at_most = var.scanned_bytes_at_most
  allow_deletion        = var.allow_deletion
}

module "orchestration" {
  source = "./modules/orchestration"

  name               = local.name
  region             = var.region
  account_id         = var.account_id
  cluster_name       = local.cluster_name
  network            = module.network.network
  image              = var.image
  image_repositories = var.image_repositories
  sizes              = var.sizes
  runs_at_once       = var.runs_at_once
  viewers            = var.viewers
  database           = var.database
  allow_deletion     = var.allow_deletion
  ui                 = var.ui
  settings           = var.settings
  lake               = module.lake.access
  glue_prefix        = local.glue_prefix
  log_groups         = module.observability.log_groups
  kms_key_arn        = module.observability.kms_key_arn
  insights           = var.container_insights
  ui_secret = {
    arn         = data.aws_secretsmanager_secret.ui.arn
    kms_key_arn = data.aws_secretsmanager_secret.ui.kms_key_id
  }
  access_log_bucket = module.lake.log_bucket
}

# Made by bootstrap/, filled by whoever deploys: no state ever holds the tokens.
data "aws_secretsmanager_secret" "ui" {
  name = "${local.name}/ui"
}

module "query" {
  source = "./modules/query"
  count  = var.trino.enabled ? 1 : 0

  name               = local.name
  region             = var.region
  account_id         = var.account_id
  network            = module.network.network
  cluster_arn        = module.orchestration.cluster_arn
  execution_role_arn = module.orchestration.execution_role_arn
  namespace_id       = module.orchestration.namespace_id
  namespace          = module.orchestration.namespace
  client_groups      = module.orchestration.lake_clients
  image              = var.trino.image
  coordinator        = var.trino.coordinator
  worker             = var.trino.worker
  workers            = var.trino.workers
  lake               = module.lake.access
  glue_prefix        = local.glue_prefix
  log_group          = module.observability.log_groups["trino"]
}

module "ci" {
  source = "./modules/ci"
  count  = var.github_repository == "" ? 0 : 1

  name               = local.name
  account_id         = var.account_id
  region             = var.region
  environment        = var.environment
  repository         = var.github_repository
  state_bucket       = "${local.name}-state-${var.account_id}"
  state_key_arn      = data.aws_secretsmanager_secret.ui.kms_key_id # bootstrap/ has one key for both
  image_repositories = var.image_repositories
  owned_buckets      = module.lake.buckets
}
