variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "account_id" {
  description = "The account."
  type        = string
}

variable "cluster_name" {
  description = "The ECS cluster's name."
  type        = string
}

variable "network" {
  description = "Where things run."
  type = object({
    vpc_id          = string
    cidr            = string
    private_subnets = list(string)
  })
}

variable "image" {
  description = "The image of lakehouse, by digest."
  type        = string
}

variable "image_repositories" {
  description = "The ECR repositories that tasks pull from."
  type        = list(string)
}

variable "sizes" {
  description = "What each task takes: cpu in 1/1024 vCPU, memory in MiB."
  type        = map(object({ cpu = number, memory = number }))
}

variable "runs_at_once" {
  description = "How many runs there are at a time."
  type        = number
}

variable "viewers" {
  description = "How many read-only webservers."
  type        = number
}

variable "database" {
  description = "Dagster's Postgres."
  type = object({
    class       = string
    storage_gb  = number
    storage_max = number
    multi_az    = bool
    backup_days = number
  })
}

variable "allow_deletion" {
  description = "Whether the database may be deleted."
  type        = bool
}

variable "ui" {
  description = "Names of the UI, its certificate, and from where it is reached."
  type = object({
    name            = string
    viewer_name     = string
    certificate_arn = string
    allowed_cidrs   = list(string)
  })
}

variable "settings" {
  description = "Settings of lakehouse, without LAKEHOUSE_ before their names."
  type        = map(string)
}

variable "lake" {
  description = "Where the lake is, and the key of its rows."
  type = object({
    root        = string
    bucket      = string
    bucket_arn  = string
    prefix      = string
    work_bucket = string
    work_arn    = string
    kms_key_arn = string
  })
}

variable "glue_prefix" {
  description = "Databases in Glue are PREFIX_ZONE."
  type        = string
}

variable "log_groups" {
  description = "Log groups, by what writes to them."
  type        = map(object({ name = string, arn = string }))
}

variable "kms_key_arn" {
  description = "The key of the database, its password and logs."
  type        = string
}

variable "insights" {
  description = "What ECS measures."
  type        = string
}

variable "ui_secret" {
  description = "The secret with ui_token, viewer_token and alert_urls, and its key."
  type        = object({ arn = string, kms_key_arn = string })
}

variable "access_log_bucket" {
  description = "Where the load balancer logs requests."
  type        = string
}
