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

variable "network" {
  description = "Where things run."
  type = object({
    vpc_id          = string
    cidr            = string
    private_subnets = list(string)
  })
}

variable "cluster_arn" {
  description = "The ECS cluster."
  type        = string
}

variable "execution_role_arn" {
  description = "The role that starts containers."
  type        = string
}

variable "namespace" {
  description = "The domain of services for each other."
  type        = string
}

variable "namespace_id" {
  description = "The same, as Cloud Map names it."
  type        = string
}

variable "client_groups" {
  description = "Security groups of who may ask."
  type        = map(string)
}

variable "image" {
  description = "Trino's image, by digest: infra/trino."
  type        = string
}

variable "coordinator" {
  description = "What the coordinator takes."
  type        = object({ cpu = number, memory = number })
}

variable "worker" {
  description = "What each worker takes."
  type        = object({ cpu = number, memory = number })
}

variable "workers" {
  description = "How many workers."
  type        = number
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

variable "log_group" {
  description = "Where Trino logs."
  type        = object({ name = string, arn = string })
}
