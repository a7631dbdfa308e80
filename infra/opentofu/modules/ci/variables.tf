variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "account_id" {
  description = "The account."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "environment" {
  description = "The GitHub environment, with its approval, from which changes are applied."
  type        = string
}

variable "repository" {
  description = "OWNER/NAME on GitHub."
  type        = string

  validation {
    condition     = can(regex("^[\\w.-]+/[\\w.-]+$", var.repository))
    error_message = "OWNER/NAME."
  }
}

variable "state_bucket" {
  description = "The bucket of the state."
  type        = string
}

variable "state_key_arn" {
  description = "The key that the state is encrypted with."
  type        = string
}

variable "image_repositories" {
  description = "ECR repositories that images are pushed to."
  type        = list(string)
}

variable "owned_buckets" {
  description = "Buckets that belong to this environment."
  type        = list(string)
}
