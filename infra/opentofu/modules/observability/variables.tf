variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "environment" {
  description = "The value of the tag Environment, by which costs are told apart."
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

variable "log_groups" {
  description = "What has a log group of its own."
  type        = list(string)
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "services" {
  description = "Services that should run."
  type        = list(string)
}

variable "database_identifier" {
  description = "The database instance's name."
  type        = string
}

variable "database_free_minimum" {
  description = "Bytes of the database's disk that should be free."
  type        = number
}

variable "load_balancer" {
  description = "The load balancer as CloudWatch names it."
  type        = string
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = list(string)
}

variable "monthly_budget_usd" {
  description = "What the environment is expected to cost a month."
  type        = number
}
